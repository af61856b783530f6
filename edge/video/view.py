"""The part of a source's picture that is used: a region of it, with masks that are blacked out.

Both are in shares of the upright picture, 0..1 from its top left, so that they hold for any size:

    region    x, y, width, height             all else of the picture is cut off
    mask      x, y, x, y, x, y ...            corners of a polygon; several with ; between them

A source applies them before it gives a frame away, so that neither the networks nor anything that
records or shows pictures can get more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import SourceError
from edge.video.frames import Frame, Plane

_SIDE_MIN_PX = 16  # of a region; encoders take no smaller pictures
_REGION_MIN = 0.01
_POLYGONS_MAX = 64
_CORNERS_MAX = 256
_ROUNDING = 1e-6  # shares that were divided by hand may add up to a little more than 1
_SUBPIXEL_BITS = 6
_NO_COLOUR = 128


class Region(NamedTuple):
    """A rectangle in shares of the picture, 0..1."""

    left: float
    top: float
    width: float
    height: float


Polygon = tuple[tuple[float, float], ...]  # corners (x, y) in shares of the picture, 0..1


@dataclass(frozen=True, slots=True)
class View:
    """region: what is kept; None: the whole picture. mask: what is blacked out."""

    region: Region | None = None
    mask: tuple[Polygon, ...] = ()

    def query(self) -> str:
        """The options of an address that stand for it, or ""."""
        options = []
        if self.region is not None:
            options.append(f"region={_text(self.region)}")
        if self.mask:
            options.append("mask=" + ";".join(_text(sum(shape, ())) for shape in self.mask))
        return "&".join(options)


WHOLE = View()


def parse_region(text: str) -> Region:
    """Parse `x,y,width,height`. Raises ValueError, whose text says what it must be."""
    return region_of(_numbers(text))


def parse_mask(text: str) -> tuple[Polygon, ...]:
    """Parse `x,y,x,y,x,y;...`. Raises ValueError, whose text says what it must be."""
    shapes = [_numbers(shape) for shape in text.split(";")]
    if any(len(numbers) % 2 for numbers in shapes):
        raise ValueError("pairs of x and y")
    return mask_of([list(zip(shape[::2], shape[1::2], strict=True)) for shape in shapes])


def region_of(numbers: Sequence[float]) -> Region:
    """The region of four numbers. Raises ValueError, whose text says what they must be."""
    if len(numbers) != 4 or not all(0 <= number <= 1 for number in numbers):
        raise ValueError("x, y, width, height, each from 0 to 1 (shares of the picture)")
    region = Region(*map(float, numbers))
    if min(region.width, region.height) < _REGION_MIN:
        raise ValueError(f"a rectangle of {_REGION_MIN:g} or more in width and height")
    for start, side in ((region.left, region.width), (region.top, region.height)):
        if start + side > 1 + _ROUNDING:
            raise ValueError("a rectangle within the picture: x + width and y + height at most 1")
    return region


def mask_of(shapes: Sequence[Sequence[Sequence[float]]]) -> tuple[Polygon, ...]:
    """The mask of polygons, each a list of corners. Raises ValueError, whose text says what they
    must be."""
    if not 1 <= len(shapes) <= _POLYGONS_MAX:
        raise ValueError(f"1 to {_POLYGONS_MAX} polygons")
    return tuple(map(_polygon, shapes))


def _polygon(corners: Sequence[Sequence[float]]) -> Polygon:
    if any(len(corner) != 2 for corner in corners) or not 3 <= len(corners) <= _CORNERS_MAX:
        raise ValueError(f"polygons of 3 to {_CORNERS_MAX} corners, x and y each")
    if not all(0 <= number <= 1 for corner in corners for number in corner):
        raise ValueError("polygons whose corners are from 0 to 1 (shares of the picture)")
    first, *rest = ((float(x), float(y)) for x, y in corners)
    sides = [(x - first[0], y - first[1]) for x, y in rest]
    if all(math.isclose(a * d, b * c) for a, b in sides for c, d in sides):
        raise ValueError("polygons with an area, not points on one line")
    return (first, *rest)


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise ValueError("numbers with commas between them") from None


def _text(numbers: Sequence[float]) -> str:
    return ",".join(f"{number:.17g}" for number in numbers)


class _Rectangle(NamedTuple):
    """In px of the picture; left and top are even, so that chroma is cut at whole samples."""

    left: int
    top: int
    right: int
    bottom: int


class _Blackout(NamedTuple):
    """What is done to the planes of a masked picture. hidden: of the whole picture. keep: 255 where
    a sample of the region stays, else 0; fill: 0 where it stays. Of luma, then of chroma."""

    hidden: NDArray[np.bool_]
    keep: tuple[Plane, Plane]
    fill: tuple[Plane, Plane]


class ViewCutter:
    """Cuts the frames of one source to a view."""

    def __init__(self, view: View, name: str) -> None:
        """name: of the source, for messages."""
        self._view, self._name = view, name
        self._known: tuple[tuple[int, int], bool] | None = None  # size and range of `_blackout`
        self._blackout: _Blackout | None = None

    def size_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """The size of the view of a picture of this size. Raises SourceError if it is too small."""
        left, top, right, bottom = self._rectangle(size_hw)
        return bottom - top, right - left

    def __call__(self, frame: Frame) -> Frame:
        """The view of an upright frame: views of its planes, or new planes if there is a mask.

        Raises SourceError if the region is too small in a picture of this size.
        """
        if self._view == WHOLE:
            return frame
        left, top, right, bottom = self._rectangle(frame.size_hw)
        luma = np.s_[top:bottom, left:right]
        chroma = np.s_[top // 2 : (bottom + 1) // 2, left // 2 : (right + 1) // 2]
        planes = frame.y[luma], frame.u[chroma], frame.v[chroma]
        vectors = frame.vectors
        if self._view.mask:
            blackout = self._blackout_of(frame, luma, chroma)
            planes = _filled(planes, blackout)
            vectors = vectors and vectors.hidden(blackout.hidden)
        if vectors is not None:
            size_hw = bottom - top, right - left
            vectors = vectors.resized((top, left, *size_hw), size_hw)
        y, u, v = planes
        return replace(frame, y=y, u=u, v=v, vectors=vectors)

    def _rectangle(self, size_hw: tuple[int, int]) -> _Rectangle:
        height, width = size_hw
        if self._view.region is None:
            return _Rectangle(0, 0, width, height)
        left, top, share_w, share_h = self._view.region
        found = _Rectangle(
            _even(left, width), _even(top, height),
            _even(left + share_w, width), _even(top + share_h, height),
        )  # fmt: skip
        side_w, side_h = found.right - found.left, found.bottom - found.top
        if min(side_w, side_h) < _SIDE_MIN_PX:
            raise SourceError(
                f"{self._name}: region is {side_w} x {side_h} px of its {width} x {height} "
                f"picture; give one of {_SIDE_MIN_PX} px or more"
            )
        return found

    def _blackout_of(
        self, frame: Frame, luma: tuple[slice, slice], chroma: tuple[slice, slice]
    ) -> _Blackout:
        known = frame.size_hw, frame.full_range
        if self._blackout is None or self._known != known:
            black = 0 if frame.full_range else 16
            hidden = hidden_px(self._view.mask, frame.size_hw)
            parts = (hidden[luma], black), (_any_of_four(hidden)[chroma], _NO_COLOUR)
            keep_y, keep_uv = (np.where(part, 0, 255).astype(np.uint8) for part, _ in parts)
            fill_y, fill_uv = (np.where(part, level, 0).astype(np.uint8) for part, level in parts)
            self._blackout = _Blackout(hidden, (keep_y, keep_uv), (fill_y, fill_uv))
            self._known = known
        return self._blackout


def _filled(planes: tuple[Plane, Plane, Plane], blackout: _Blackout) -> tuple[Plane, Plane, Plane]:
    def fill(plane: Plane, number: int) -> Plane:
        kept = cv2.bitwise_and(plane, blackout.keep[number])
        return cv2.bitwise_or(kept, blackout.fill[number], dst=kept)  # type: ignore[return-value]

    y, u, v = planes
    return fill(y, 0), fill(u, 1), fill(v, 1)


def _even(share: float, side: int) -> int:
    """The nearest even number of px within a side."""
    return min(2 * round(share * side / 2), side - side % 2)


def hidden_px(mask: Sequence[Polygon], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Whether each pixel of a picture is blacked out, (H, W): each that a polygon touches, with a
    border of one pixel. What a polygon that crosses itself encloses counts as inside."""
    height, width = size_hw
    hidden = np.zeros(size_hw, np.uint8)
    for polygon in mask:
        # OpenCV's coordinates are those of the centres of pixels
        px = np.array(polygon) * (width, height) - 0.5
        corners = np.round(px * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        shape = np.zeros(size_hw, np.uint8)
        cv2.fillPoly(shape, [corners], 1, shift=_SUBPIXEL_BITS)
        outlines, _ = cv2.findContours(shape, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(hidden, outlines, -1, 1, cv2.FILLED)
    return cv2.dilate(hidden, np.ones((3, 3), np.uint8)).astype(np.bool_)  # type: ignore[return-value]


def _any_of_four(hidden: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether a chroma sample belongs to a hidden pixel: (H, W) to (ceil(H/2), ceil(W/2))."""
    height, width = hidden.shape
    even = np.pad(hidden, ((0, height % 2), (0, width % 2)))
    return even[::2, ::2] | even[1::2, ::2] | even[::2, 1::2] | even[1::2, 1::2]
