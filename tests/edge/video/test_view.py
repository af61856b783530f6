"""Regions and masks: which pixels are kept, and which are black."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import SourceError
from edge.video.frames import Frame
from edge.video.motion_vectors import MotionVectors
from edge.video.view import (
    WHOLE,
    Polygon,
    Region,
    View,
    ViewCutter,
    hidden_px,
    parse_mask,
    parse_region,
)

SQUARE = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))
# between neighbours of its edge lie the five points; a fill by the even-odd rule leaves its middle
STAR = tuple(
    (0.5 + 0.4 * float(np.sin(turn)), 0.5 - 0.4 * float(np.cos(turn)))
    for turn in 4 * np.pi / 5 * np.arange(5)
)

shares = st.floats(0, 1, width=32)
sizes = st.tuples(st.integers(40, 90), st.integers(40, 90))


@st.composite
def regions(draw: st.DrawFn) -> Region:
    left, top = draw(st.floats(0, 0.5)), draw(st.floats(0, 0.5))
    return Region(left, top, draw(st.floats(0.45, 1 - left)), draw(st.floats(0.45, 1 - top)))


@st.composite
def triangles(draw: st.DrawFn) -> Polygon:
    corners = tuple((draw(shares), draw(shares)) for _ in range(3))
    with suppress(ValueError):
        return parse_mask(View(mask=(corners,)).query().removeprefix("mask="))[0]
    return SQUARE[:3]


def noise(size_hw: tuple[int, int], full_range: bool = False) -> Frame:
    """Read-only, like what a decoder gives; black and neutral nowhere."""
    height, width = size_hw
    rng = np.random.default_rng(height * width)
    shapes = [size_hw, *[((height + 1) // 2, (width + 1) // 2)] * 2]
    planes = [rng.integers(40, 120, shape, np.uint8) for shape in shapes]
    for plane in planes:
        plane.flags.writeable = False
    return Frame(*planes, time_s=1.5, index=7, full_range=full_range)


def cut(frame: Frame, view: View) -> Frame:
    return ViewCutter(view, "yard")(frame)


def assert_same_planes(one: Frame, other: Frame) -> None:
    for name in ("y", "u", "v"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@given(region=st.none() | regions(), mask=st.lists(triangles(), max_size=3))
def test_a_view_is_parsed_as_it_is_written(region: Region | None, mask: list[Polygon]) -> None:
    view = View(region, tuple(mask))
    options = dict(part.split("=") for part in view.query().split("&") if part)
    assert (
        View(
            parse_region(options["region"]) if region else None,
            parse_mask(options["mask"]) if mask else (),
        )
        == view
    )


@given(st.text() | st.text("0123456789.,;e+-naif ", max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with suppress(ValueError):
        left, top, width, height = parse_region(text)
        assert 0 <= left < left + width <= 1.001
        assert 0 <= top < top + height <= 1.001
    with suppress(ValueError):
        for polygon in parse_mask(text):
            assert len(polygon) >= 3
            assert all(0 <= share <= 1 for corner in polygon for share in corner)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "numbers with commas"),
        ("0,0,1", "x, y, width, height"),
        ("0,0,1,nan", "from 0 to 1"),
        ("0,0,640,480", "from 0 to 1"),
        ("0.5,0,0.6,1", "within the picture"),
        ("0,0.5,1,0.6", "within the picture"),
        ("0,0,0,1", "in width and height"),
    ],
)
def test_a_wrong_region_is_explained(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_region(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0,0,1,0,1", "pairs of x and y"),
        ("0,0,1,1", "3 to 256 corners"),
        ("0,0,1,0,1,1.5", "from 0 to 1"),
        ("0,0,0.5,0.5,1,1", "an area"),
        ("0,0,1,0,1,1;", "numbers with commas"),
        (",".join(["0,0,1,0,1,1"] * 100), "3 to 256 corners"),
        (";".join(["0,0,1,0,1,1"] * 65), "1 to 64 polygons"),
    ],
)
def test_a_wrong_mask_is_explained(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_mask(text)


def test_the_whole_view_is_the_frame_itself() -> None:
    frame = noise((48, 64))
    assert cut(frame, WHOLE) is frame


def test_a_region_is_a_part_of_the_planes_without_a_copy() -> None:
    frame = noise((240, 320))
    found = cut(frame, View(Region(0.25, 0.5, 0.5, 0.25)))
    np.testing.assert_array_equal(found.y, frame.y[120:180, 80:240])
    np.testing.assert_array_equal(found.u, frame.u[60:90, 40:120])
    np.testing.assert_array_equal(found.v, frame.v[60:90, 40:120])
    assert np.shares_memory(found.y, frame.y)
    assert replace(found, y=frame.y, u=frame.u, v=frame.v) == frame  # all else is kept


@given(size_hw=sizes, region=regions())
def test_a_region_of_any_size_lies_within_a_pixel_of_its_shares(
    size_hw: tuple[int, int], region: Region
) -> None:
    frame, view = noise(size_hw), View(region)
    found = cut(frame, view)
    assert found.size_hw == ViewCutter(view, "").size_hw(size_hw)
    height, width = found.size_hw
    assert height % 2 == width % 2 == 0
    assert found.u.shape == found.v.shape == (height // 2, width // 2)
    assert abs(width - region.width * size_hw[1]) <= 3
    assert abs(height - region.height * size_hw[0]) <= 3
    address = found.y.__array_interface__["data"][0] - frame.y.__array_interface__["data"][0]
    top, left = divmod(address, size_hw[1])
    assert top % 2 == left % 2 == 0
    assert abs(left - region.left * size_hw[1]) <= 2
    assert abs(top - region.top * size_hw[0]) <= 2


def test_a_region_that_is_too_small_is_named() -> None:
    with pytest.raises(SourceError, match=r"yard: region is 6 x 4 px of its 64 x 48 picture"):
        cut(noise((48, 64)), View(Region(0, 0, 0.1, 0.1)))


@given(
    size_hw=sizes,
    polygon=triangles(),
    weights=st.tuples(*[st.floats(0.01, 1)] * 3),
    full_range=st.booleans(),
)
def test_whatever_lies_in_a_polygon_is_black(
    size_hw: tuple[int, int],
    polygon: Polygon,
    weights: tuple[float, float, float],
    full_range: bool,
) -> None:
    frame = noise(size_hw, full_range)
    found = cut(frame, View(mask=(polygon,)))
    x, y = np.average(polygon, axis=0, weights=weights)  # a point within the triangle
    row, column = (min(int(p * side), side - 1) for p, side in zip((y, x), size_hw, strict=True))
    black = 0 if full_range else 16
    assert found.y[row, column] == black
    assert (found.u[row // 2, column // 2], found.v[row // 2, column // 2]) == (128, 128)
    # each pixel is black, with the colour that it shares, or as it was
    hidden = hidden_px((polygon,), size_hw)
    np.testing.assert_array_equal(found.y, np.where(hidden, black, frame.y))
    uncoloured = found.u == 128
    assert uncoloured.repeat(2, axis=0).repeat(2, axis=1)[: size_hw[0], : size_hw[1]][hidden].all()
    np.testing.assert_array_equal(found.v == 128, uncoloured)
    np.testing.assert_array_equal(found.u[~uncoloured], frame.u[~uncoloured])


@given(size_hw=sizes, polygon=triangles())
def test_a_mask_ends_near_its_polygon(size_hw: tuple[int, int], polygon: Polygon) -> None:
    hidden = hidden_px((polygon,), size_hw)
    corners = np.array(polygon) * size_hw[::-1]
    rows, columns = np.nonzero(hidden)
    low, high = corners.min(axis=0) - 2.5, corners.max(axis=0) + 2.5
    assert (columns >= low[0]).all()
    assert (columns <= high[0]).all()
    assert (rows >= low[1]).all()
    assert (rows <= high[1]).all()
    (ax, ay), (bx, by), (cx, cy) = corners
    area = abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2
    around = np.hypot(*(corners - np.roll(corners, 1, axis=0)).T).sum()
    assert hidden.sum() <= area + 3 * around + 30


def test_a_polygon_that_crosses_itself_has_no_hole() -> None:
    hidden = hidden_px((STAR,), (100, 100))
    assert hidden[50, 50]
    assert hidden[20, 50]
    assert not hidden[80, 50]  # below, between two points


def test_polygons_that_overlap_stay_black() -> None:
    hidden = hidden_px((SQUARE, SQUARE, ((0, 0), (0.6, 0), (0.6, 0.6), (0, 0.6))), (100, 100))
    assert hidden[26:74, 26:74].all()
    assert hidden[1:59, 1:59].all()
    assert not hidden[80:, 80:].any()


@given(size_hw=sizes, region=regions(), polygon=triangles())
def test_a_mask_is_of_the_whole_picture_whatever_the_region(
    size_hw: tuple[int, int], region: Region, polygon: Polygon
) -> None:
    frame = noise(size_hw)
    both = cut(frame, View(region, (polygon,)))
    assert_same_planes(both, cut(cut(frame, View(mask=(polygon,))), View(region)))


def test_a_mask_follows_a_change_of_size_and_range() -> None:
    cutter = ViewCutter(View(mask=(SQUARE,)), "yard")
    for frame in (noise((48, 64)), noise((96, 128)), noise((96, 128), full_range=True)):
        assert_same_planes(cutter(frame), cut(frame, View(mask=(SQUARE,))))
        assert_same_planes(frame, noise(frame.size_hw))  # it is not written to


def test_motion_vectors_are_those_of_what_is_seen() -> None:
    """In px of the region, and none whose block is under the mask."""
    boxes = np.array([[100, 60, 116, 76], [200, 60, 216, 76]], np.float32)
    velocities = np.array([[25, 0], [0, 50]], np.float32)
    vectors = MotionVectors(boxes, velocities, 1.0)
    frame = replace(noise((240, 320)), vectors=vectors)
    region, right = Region(0.25, 0.25, 0.5, 0.5), ((0.6, 0.0), (1.0, 0.0), (1.0, 1.0), (0.6, 1.0))
    seen = cut(frame, View(region)).vectors
    assert seen is not None
    np.testing.assert_array_equal(seen.boxes, [[20, 0, 36, 16], [120, 0, 136, 16]])
    np.testing.assert_array_equal(seen.velocities, velocities)
    masked = cut(frame, View(region, (right,))).vectors
    assert masked is not None
    np.testing.assert_array_equal(masked.boxes, [[20, 0, 36, 16]])
    np.testing.assert_array_equal(masked.velocities, velocities[:1])
