"""Area interpolation beside OpenCV's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.video.area import Plane, resize_area

View = tuple[int, int, int, int]


def noise(height: int, width: int) -> Plane:
    return np.random.default_rng(height * width).integers(0, 256, (height, width), np.uint8)


def by_opencv(plane: Plane, view: View, out_hw: tuple[int, int]) -> Plane:
    top, left, height, width = view
    part = plane[top : top + height, left : left + width]
    return np.asarray(cv2.resize(part, out_hw[::-1], interpolation=cv2.INTER_AREA), np.uint8)


@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
@settings(deadline=None)
def test_any_part_of_any_plane_is_within_a_level(
    view_hw: tuple[int, int],
    out_hw: tuple[int, int],
    before: tuple[int, int],
    behind: tuple[int, int],
) -> None:
    height, width = (sum(sides) for sides in zip(before, view_hw, behind, strict=True))
    plane, view = noise(height, width), (*before, *view_hw)
    found, expected = resize_area(plane, view, out_hw), by_opencv(plane, view, out_hw)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("size_hw", [(240, 320), (480, 640), (720, 1280), (1080, 1920)])
@pytest.mark.parametrize("out", [112, 160, 224])
def test_cameras_hardly_differ(size_hw: tuple[int, int], out: int) -> None:
    height, width = size_hw[0], size_hw[0] * 4 // 3
    plane = cv2.GaussianBlur(noise(*size_hw), (0, 0), 1.0)
    view = (0, (size_hw[1] - width) // 2, height, width)
    found, expected = (resize(plane, view, (out, out)) for resize in (resize_area, by_opencv))
    # 240 : 160 and its multiples make many halves, which either may round the other way
    assert (found != expected).mean() < (0.02 if out == 160 else 0.002)


def padded(plane: Plane) -> Plane:
    """With other bytes behind each row, as decoders give them."""
    wide = np.full((plane.shape[0], plane.shape[1] + 32), 255, np.uint8)
    wide[:, : plane.shape[1]] = plane
    return wide[:, : plane.shape[1]]


def read_only(plane: Plane) -> Plane:
    return np.frombuffer(plane.tobytes(), np.uint8).reshape(plane.shape)


@pytest.mark.parametrize(
    "laid_out",
    [
        padded,
        read_only,
        lambda plane: plane[::-1][::-1],
        lambda plane: plane[::-1].copy()[::-1],
        lambda plane: np.asfortranarray(plane),
        lambda plane: np.repeat(plane, 2, axis=1)[:, ::2],
        lambda plane: np.repeat(plane, 2, axis=0)[::2],
    ],
)
def test_planes_may_lie_in_memory_in_any_way(laid_out) -> None:  # type: ignore[no-untyped-def]
    plane, view = noise(61, 83), (3, 5, 50, 71)
    expected = resize_area(plane, view, (20, 30))
    assert (resize_area(laid_out(plane), view, (20, 30)) == expected).all()


@pytest.mark.parametrize(
    "view", [(0, 0, 40, 10), (0, 1, 10, 10), (-1, 0, 10, 10), (0, -1, 10, 10), (1, 0, 10, 10)]
)
def test_what_is_not_in_the_plane_is_refused(view: View) -> None:
    with pytest.raises(ValueError, match="not within a plane"):
        resize_area(noise(10, 10), view, (5, 5))


def test_a_plane_of_one_level_stays_so() -> None:
    for level in (0, 1, 16, 127, 235, 255):
        plane = np.full((1080, 1920), level, np.uint8)
        assert (resize_area(plane, (0, 240, 1080, 1440), (224, 224)) == level).all()
