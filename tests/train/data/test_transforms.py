"""Augmentation keeps pictures pictures and motion motion."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.motion.quantise import quantise
from edge.motion.spec import PRESETS
from edge.motion.tvl1 import TVL1
from edge.video.frames import Frame
from train.data.transforms import (
    Crop,
    augment_frame,
    augment_stack,
    draw_colours,
    draw_crop,
    mirror_u,
)
from train.recipe import load_recipe

WHOLE = Crop(0, 0, 96, 128, flip=False)


def texture(shift_x: float) -> np.ndarray:
    """A smooth pattern (96, 128), moved to the right by `shift_x` px."""
    y, x = np.mgrid[:96, :128].astype(np.float64)
    x = x - shift_x
    waves = np.sin(x / 5) + np.sin(y / 6 + x / 9) + np.sin(x / 13 - y / 7)
    return np.round(126 + 30 * waves).astype(np.uint8)


def moving_stack() -> np.ndarray:
    """Two flows (2, 2, H, W) of a pattern that moves right by 1.5 px a frame."""
    flow = TVL1(PRESETS["fast"], (96, 128))
    pictures = [texture(1.5 * i) for i in range(3)]
    pairs = itertools.pairwise(pictures)
    return np.stack([quantise(flow(a, b), PRESETS["fast"], 0.04) for a, b in pairs])


def pixels(levels: np.ndarray) -> np.ndarray:
    return (levels.astype(np.float64) - 127.5) * 20 / 127.5


def test_a_mirrored_clip_has_mirrored_u_with_its_sign_changed() -> None:
    stack = moving_stack()
    flipped = augment_stack(stack, Crop(0, 0, 96, 128, flip=True), (96, 128))
    flow = TVL1(PRESETS["fast"], (96, 128))
    mirrored = [np.ascontiguousarray(texture(1.5 * i)[:, ::-1]) for i in range(2)]
    truth = quantise(flow(*mirrored), PRESETS["fast"], 0.04)
    inner = (slice(None), slice(12, -12), slice(12, -12))
    difference = np.abs(pixels(flipped[0][inner]) - pixels(truth[inner]))
    assert difference.mean() < 0.1
    assert pixels(flipped[0, 0, 40:50, 40:90]).mean() == pytest.approx(-1.5, abs=0.15)
    assert pixels(stack[0, 0, 40:50, 40:90]).mean() == pytest.approx(1.5, abs=0.15)


@pytest.mark.parametrize("size_hw", [(96, 128), (48, 64), (64, 64)])
def test_flow_vectors_scale_with_the_enlargement_of_the_crop(
    size_hw: tuple[int, int],
) -> None:
    stack = moving_stack()
    half = augment_stack(stack, Crop(24, 32, 48, 64, flip=False), size_hw)
    assert pixels(half[:, 0]).mean() == pytest.approx(3.0, abs=0.3)
    assert np.abs(pixels(half[:, 1])).mean() < 0.4


def test_cropping_keeps_the_byte_of_no_motion() -> None:
    still = np.full((3, 2, 96, 128), 128, np.uint8)
    out = augment_stack(still, Crop(10, 20, 64, 86, flip=False), (96, 128))
    assert (out == 128).all()


def test_mirroring_changes_the_sign_of_u_and_keeps_still_flow_still() -> None:
    levels = np.arange(256, dtype=np.uint8)
    mirrored = mirror_u(levels)
    still = quantise(np.zeros((2, 1, 1), np.float32), PRESETS["fast"], 0.04)[0, 0, 0]
    assert (still, mirrored[still]) == (128, 128)
    assert (mirrored[0], mirrored[127], mirrored[129], mirrored[255]) == (255, 128, 126, 0)
    moving = levels != still
    np.testing.assert_array_equal(pixels(mirrored[moving]), -pixels(levels[moving]))


@pytest.mark.parametrize("side", [16, 20, 28, 32])
def test_both_directions_of_flow_are_enlarged_alike(side: int) -> None:
    """A crop that is mirrored afterwards is that of the mirrored flow, byte for byte."""
    for level in sorted({*range(256)} - {127, 128}):  # 127 is mirrored to still flow
        stack = np.full((1, 2, 32, 32), level, np.uint8)
        later = augment_stack(stack, Crop(0, 0, side, side, flip=True), (32, 32))[:, 0]
        first = augment_stack(mirror_u(stack), Crop(0, 0, side, side, flip=False), (32, 32))[:, 0]
        np.testing.assert_array_equal(later, first, err_msg=str(level))


RECIPE = load_recipe("default", "spatial").augmentation


@given(st.integers(0, 2**32 - 1), st.sampled_from(["corners", "random"]))
def test_crops_are_inside_the_frame_with_even_sides(seed: int, place: str) -> None:
    recipe = RECIPE.model_copy(update={"place": place})
    crop = draw_crop(np.random.default_rng(seed), (224, 224), recipe)
    assert crop.top % 2 == crop.left % 2 == crop.height % 2 == crop.width % 2 == 0
    assert crop.top + crop.height <= 224
    assert crop.left + crop.width <= 224
    assert min(crop.height, crop.width) >= 146
    assert max(crop.height / crop.width, crop.width / crop.height) < 1.35


def test_flipping_a_frame_flips_all_its_planes() -> None:
    y, u = np.zeros((96, 128), np.uint8), np.full((48, 64), 128, np.uint8)
    y[:, :64], u[:, :32] = 200, 60
    frame = Frame(y, u, u, 0.0, 0)
    rng = np.random.default_rng(3)
    out = augment_frame(frame, Crop(0, 0, 96, 128, flip=True), (96, 128), draw_colours(rng, 1.0))
    assert out.y[:, 70:].min() > out.y[:, :58].max()
    assert out.u[:, 36:].max() < out.u[:, :28].min()


def test_a_whole_crop_without_flip_and_colour_is_the_frame_itself() -> None:
    still = RECIPE.model_copy(update={"flip": False, "scales": (1.0,)})
    rng = np.random.default_rng(1)
    assert draw_crop(rng, (96, 128), still) == WHOLE
    frame = Frame(texture(0.0), np.full((48, 64), 90, np.uint8), np.zeros((48, 64), np.uint8), 0, 0)
    out = augment_frame(frame, WHOLE, (96, 128), draw_colours(rng, 0.0))
    for plane in ("y", "u", "v"):
        np.testing.assert_array_equal(getattr(out, plane), getattr(frame, plane))
    smaller = augment_frame(frame, WHOLE, (48, 64), draw_colours(rng, 0.0))
    assert smaller.y.shape == (48, 64)
    assert smaller.u.shape == (24, 32)
    assert abs(smaller.y.mean() - frame.y.mean()) < 0.5
