"""Geometry and colour: the one way from a decoded frame to the spatial network."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge.video.frames import (
    Frame,
    Geometry,
    Normalisation,
    center_crop,
    pack_i420,
    resize_to_model,
    rgb_tensor,
    unpack_i420,
)

GEOMETRY = Geometry(aspect=(4, 3), size_hw=(224, 224), interpolation="area")
PLAIN = Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

# Limited-range Y, U, V of full-scale colours, by the definitions of BT.601 and BT.709.
COLOURS = {
    "bt601": {"red": (81, 90, 240), "green": (145, 54, 34), "blue": (41, 240, 110)},
    "bt709": {"red": (63, 102, 240), "green": (173, 42, 26), "blue": (32, 240, 118)},
}
RGB = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}


def solid(yuv: tuple[int, int, int], size_hw: tuple[int, int], **kind: object) -> Frame:
    height, width = size_hw
    half = ((height + 1) // 2, (width + 1) // 2)
    planes = [np.full(s, c, np.uint8) for s, c in zip((size_hw, half, half), yuv, strict=True)]
    return Frame(*planes, time_s=0.0, index=0, **kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("colour", ["red", "green", "blue"])
def test_pure_colours_come_out_in_rgb_order(matrix: str, colour: str) -> None:
    frame = solid(COLOURS[matrix][colour], (240, 320), matrix=matrix)
    tensor = rgb_tensor(resize_to_model(frame, GEOMETRY), PLAIN)
    assert tensor.shape == (3, 224, 224)
    assert tensor.dtype == np.float32
    expected = np.array(RGB[colour], np.float32)[:, None, None]
    np.testing.assert_allclose(tensor, np.broadcast_to(expected, tensor.shape), atol=0.012)


def test_full_range_and_limited_range_of_one_picture_give_one_tensor() -> None:
    limited = resize_to_model(solid((145, 54, 34), (240, 320)), GEOMETRY)
    full = resize_to_model(solid((150, 44, 21), (240, 320), full_range=True), GEOMETRY)
    difference = np.abs(rgb_tensor(limited, PLAIN) - rgb_tensor(full, PLAIN)).max()
    assert difference < 2 / 255
    assert not full.full_range


def test_normalisation_is_applied_per_channel() -> None:
    white = resize_to_model(solid((235, 128, 128), (240, 320)), GEOMETRY)
    norm = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    tensor = rgb_tensor(white, norm)
    expected = (1 - np.array(norm.mean)) / np.array(norm.std)
    np.testing.assert_allclose(tensor[:, 5, 5], expected, rtol=1e-5)


def test_values_beyond_the_colour_cube_are_clipped() -> None:
    for yuv in ((255, 255, 255), (0, 0, 0), (255, 0, 255), (16, 255, 0)):
        tensor = rgb_tensor(solid(yuv, (224, 224)), PLAIN)
        assert tensor.min() >= 0
        assert tensor.max() <= 1


def test_ucf101_is_seen_whole_and_wide_pictures_lose_their_sides() -> None:
    assert center_crop((240, 320), (4, 3)) == (0, 0, 240, 320)
    top, left, height, width = center_crop((1080, 1920), (4, 3))
    assert (height, width) == (1080, 1440)
    assert (top, left) == (0, 240)
    top, left, height, width = center_crop((1920, 1080), (4, 3))  # a phone held upright
    assert (top, left) == (554, 0)
    assert width == 1080
    assert height == 810


@given(st.integers(2, 3000), st.integers(2, 3000), st.integers(1, 21), st.integers(1, 21))
def test_field_of_view_is_inside_centred_and_even(h: int, w: int, aw: int, ah: int) -> None:
    top, left, height, width = center_crop((h, w), (aw, ah))
    assert top % 2 == left % 2 == height % 2 == width % 2 == 0
    assert top >= 0 <= left
    assert height > 0
    assert width > 0
    assert top + height <= h
    assert left + width <= w
    assert abs((h - height) / 2 - top) <= 2
    assert abs((w - width) / 2 - left) <= 2
    if min(height, width) > 40:
        assert width * ah == pytest.approx(height * aw, rel=0.1)


@given(st.integers(2, 90), st.integers(2, 90))
def test_any_size_comes_out_at_the_models_size(h: int, w: int) -> None:
    geometry = Geometry(aspect=(4, 3), size_hw=(32, 48), interpolation="area")
    frame = resize_to_model(solid((100, 110, 120), (h, w)), geometry)
    assert frame.y.shape == (32, 48)
    assert frame.u.shape == frame.v.shape == (16, 24)
    assert (np.unique(frame.y), np.unique(frame.u), np.unique(frame.v)) == (100, 110, 120)


def test_planes_are_scaled_by_the_mean_of_the_area() -> None:
    y = np.arange(64 * 64, dtype=np.uint32).reshape(64, 64).astype(np.uint8)
    chroma = np.zeros((32, 32), np.uint8)
    geometry = Geometry(aspect=(1, 1), size_hw=(32, 32), interpolation="area")
    out = resize_to_model(Frame(y, chroma, chroma, 0.0, 0), geometry).y
    expected = y.reshape(32, 2, 32, 2).astype(float).mean(axis=(1, 3))
    assert np.abs(out - expected).max() <= 0.5


def test_packed_planes_come_back() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 256, (34, 46), np.uint8)
    u, v = rng.integers(0, 256, (2, 17, 23), np.uint8)
    frame = Frame(y, u, v, 1.5, 7, "bt709")
    back = unpack_i420(pack_i420(frame), (34, 46), 1.5, 7, "bt709")
    for name in ("y", "u", "v"):
        np.testing.assert_array_equal(getattr(back, name), getattr(frame, name))
    assert (back.time_s, back.index, back.matrix) == (1.5, 7, "bt709")


@pytest.mark.parametrize(
    "wrong",
    [
        {"size_hw": (223, 224)},
        {"size_hw": (0, 224)},
        {"aspect": (0, 3)},
        {"interpolation": "bilinear"},
        {"extra": 1},
    ],
)
def test_a_geometry_that_cannot_be_honoured_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Geometry(**(GEOMETRY.model_dump() | wrong))  # type: ignore[arg-type]
