"""A video frame, and the preprocessing from a frame to the networks' inputs.

Training, calibration, evaluation and live runs all use this:

    Frame (I420 as decoded) ──resize_to_model──► Frame (I420 at the model's size)
                                             ├── rgb_tensor ──► spatial
                                             └── its Y plane ──► edge.motion ──► temporal

Sizes are (height, width). Only the lines that call OpenCV swap them.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from edge.compiled import Kernel
from edge.spec import Spec
from edge.video.area import resize_area
from edge.video.motion_vectors import MotionVectors

Plane = NDArray[np.uint8]
Matrix = Literal["bt601", "bt709"]

SQUARE = (1, 1)
_ALMOST_SQUARE = 0.02  # such ratios come from rounding (4096:4083 in two clips of UCF101)
_rgb_planes = Kernel(
    "edge.video.rgb_kernel",
    "rgb_planes",
    *("uint8[2]", "uint8[2]", "uint8[2]", "float32", "float32", "float32", "float32"),
    *("float32[1]", "float32[1]", "float32[2]!", "float32[3]!"),
)
_ASPECT_MAX = 8  # a ratio beyond this, or its inverse, is a fault of the file


class Geometry(Spec):
    """The crop and size of the model's view of a frame.

    The largest centred rectangle that is shown in the shape `aspect` (width : height) is resized to
    `size_hw` by area interpolation. UCF101 is 4:3 throughout, so its frames are used whole; a 16:9
    camera loses an eighth of its width on either side and keeps the proportions of training.
    """

    aspect: tuple[int, int] = Field(strict=False)  # width, height
    size_hw: tuple[int, int] = Field(strict=False)  # px, both even (chroma is at half size)
    interpolation: Literal["area"]

    @model_validator(mode="after")
    def _sizes_are_usable(self) -> Geometry:
        if min(self.aspect) < 1 or max(self.aspect) > 100:
            raise ValueError(f"aspect must be two numbers from 1 to 100, not {self.aspect}")
        if any(side % 2 or not 32 <= side <= 1024 for side in self.size_hw):
            raise ValueError(f"size_hw must be two even numbers from 32 to 1024: {self.size_hw}")
        return self


class Normalisation(Spec):
    """`(x / 255 - mean) / std`, a pair for each colour channel (RGB) or one for all (flow)."""

    mean: tuple[float, ...] = Field(strict=False, min_length=1, max_length=3)
    std: tuple[float, ...] = Field(strict=False, min_length=1, max_length=3)

    @model_validator(mode="after")
    def _pairs(self) -> Normalisation:
        if len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError("mean and std need the same length, and every std must be positive")
        # beyond these, the float32 inputs overflow or lose their precision
        if max(map(abs, self.mean)) > 1e3 or not 1e-4 <= min(self.std) <= max(self.std) <= 1e3:
            raise ValueError(
                f"mean is {self.mean} and std {self.std}; means from -1000 to 1000 and std from "
                "0.0001 to 1000 are allowed"
            )
        return self


@dataclass(frozen=True, slots=True)
class Frame:
    """Three planes and a time.

    y: (H, W) uint8; u, v: (ceil(H/2), ceil(W/2)) uint8, BT.601 or BT.709 chroma.
    time_s: presentation time in seconds, never the wall clock.
    index: position in the source, from 0; dropped frames leave gaps.
    full_range: luma 0..255 (JPEG cameras) instead of 16..235.
    pixel_aspect: width : height of one pixel as it is shown.
    discontinuity: the camera was lost between the frame before and this one.
    arrived_s: time.monotonic() when it came out of the decoder.
    vectors: of its codec; None: its source was not asked for them.
    """

    y: Plane
    u: Plane
    v: Plane
    time_s: float
    index: int
    matrix: Matrix = "bt601"
    full_range: bool = False
    pixel_aspect: tuple[int, int] = SQUARE
    discontinuity: bool = False
    arrived_s: float = field(default_factory=time.monotonic)
    vectors: MotionVectors | None = None

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.y.shape[0], self.y.shape[1]


def default_matrix(height_px: int) -> Matrix:
    """The matrix of a stream that does not state one: GStreamer's rule (HD is BT.709)."""
    return "bt709" if height_px > 576 else "bt601"


def pixel_aspect(width: int, height: int) -> tuple[int, int]:
    """The shape of a pixel as a file or camera states it, (width, height): square if it is nearly
    so, not stated (0) or absurd."""
    if width <= 0 or height <= 0 or not 1 / _ASPECT_MAX <= width / height <= _ASPECT_MAX:
        return SQUARE
    if abs(width / height - 1) < _ALMOST_SQUARE:
        return SQUARE
    divisor = math.gcd(width, height)
    return width // divisor, height // divisor


def center_crop(
    size_hw: tuple[int, int], aspect: tuple[int, int], pixel: tuple[int, int] = SQUARE
) -> tuple[int, int, int, int]:
    """(top, left, height, width) in px of the largest centred rectangle that is shown in the shape
    `aspect`; pixel: the shape of one pixel. Both are (width, height).

    All four are even, so that the chroma planes are cut at whole samples; a side of one pixel is
    kept.
    """
    height, width = size_hw
    ratio_w, ratio_h = aspect[0] * pixel[1], aspect[1] * pixel[0]  # in pixels, not as shown
    view_h = min(height, round(width * ratio_h / ratio_w))
    view_w = min(width, round(height * ratio_w / ratio_h))
    view_h = max(view_h - view_h % 2, min(height, 2))
    view_w = max(view_w - view_w % 2, min(width, 2))
    top, left = (height - view_h) // 2, (width - view_w) // 2
    return top - top % 2, left - left % 2, view_h, view_w


def pack_i420(frame: Frame) -> Plane:
    """The planes of a frame of even size in one array, (3/2 H W,) uint8."""
    return np.concatenate([frame.y.ravel(), frame.u.ravel(), frame.v.ravel()])


def unpack_i420(
    packed: Plane, size_hw: tuple[int, int], time_s: float, index: int, matrix: Matrix
) -> Frame:
    """The frame whose planes `pack_i420` joined, as views of `packed`."""
    height, width = size_hw
    luma, chroma = height * width, height * width // 4
    half = (height // 2, width // 2)
    y = packed[:luma].reshape(size_hw)
    u = packed[luma : luma + chroma].reshape(half)
    v = packed[luma + chroma :].reshape(half)
    return Frame(y, u, v, time_s, index, matrix)


_LUMA_TO_LIMITED = np.round(16 + np.arange(256) * (219 / 255)).astype(np.uint8)
_CHROMA_TO_LIMITED = np.round(128 + (np.arange(256) - 128.0) * (224 / 255)).astype(np.uint8)


def resize_to_model(frame: Frame, geometry: Geometry) -> Frame:
    """Crop and resize a decoded frame: I420 at `geometry.size_hw`, limited range.

    The planes are resized separately, luma to (H, W) and chroma to (H/2, W/2), so that flow needs
    no colour conversion and all streams see the same picture.
    """
    top, left, view_h, view_w = center_crop(frame.size_hw, geometry.aspect, frame.pixel_aspect)
    out_h, out_w = geometry.size_hw

    def scale(plane: Plane, shift: int) -> Plane:
        first_row, first_column = top >> shift, left >> shift
        rows = ((top + view_h + shift) >> shift) - first_row
        columns = ((left + view_w + shift) >> shift) - first_column
        view = (first_row, first_column, rows, columns)
        return resize_area(plane, view, (out_h >> shift, out_w >> shift))

    y, u, v = scale(frame.y, 0), scale(frame.u, 1), scale(frame.v, 1)
    if frame.full_range:
        y = cv2.LUT(y, _LUMA_TO_LIMITED)  # type: ignore[assignment]
        u, v = cv2.LUT(u, _CHROMA_TO_LIMITED), cv2.LUT(v, _CHROMA_TO_LIMITED)  # type: ignore[assignment]
    view = (top, left, view_h, view_w)
    vectors = None if frame.vectors is None else frame.vectors.resized(view, geometry.size_hw)
    return Frame(y, u, v, frame.time_s, frame.index, frame.matrix, False, vectors=vectors)


# (Kr, Kb), the weights of red and blue in luma (ITU-R BT.601, BT.709).
LUMA_WEIGHTS: dict[str, tuple[float, float]] = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


def yuv_coefficients(matrix: Matrix) -> tuple[float, float, float, float]:
    """The factors, for limited range, of V in red, of U and V in green (to subtract), of U in
    blue."""
    red, blue = LUMA_WEIGHTS[matrix]
    green = 1 - red - blue
    of_v, of_u = 255 / 224 * 2 * (1 - red), 255 / 224 * 2 * (1 - blue)
    return of_v, of_u * blue / green, of_v * red / green, of_u


def rgb_tensor(
    frame: Frame, normalisation: Normalisation, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """A normalised RGB input, (3, H, W) float32, from a frame at the model's size. out: where to
    write it; None: a new array.

    Chroma is repeated, not interpolated; RGB is clipped to 0..255 and normalised without rounding.
    """
    if out is None:
        out = np.empty((3, *frame.size_hw), np.float32)
    std = np.asarray(normalisation.std, np.float64)
    mean = np.asarray(normalisation.mean, np.float64)
    _rgb_planes(
        *map(np.ascontiguousarray, (frame.y, frame.u, frame.v)),
        *yuv_coefficients(frame.matrix),
        (1 / (255 * std)).astype(np.float32),
        (-mean / std).astype(np.float32),
        np.empty((3, 2 * frame.u.shape[1]), np.float32),
        out,
    )
    return out  # (3, H, W)
