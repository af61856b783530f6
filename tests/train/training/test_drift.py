"""Drawn motion: the flow that is given is that of the pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from train.training.drift import draw_drift


def texture(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (60, 80)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("pieces", [0, 2])
def test_each_picture_is_the_next_one_moved_back_by_the_flow(seed: int, pieces: int) -> None:
    pictures = [texture(seed + n) for n in range(1 + pieces)]
    stack, flow = draw_drift(pictures, 4, np.random.default_rng(seed))
    assert (stack.shape, flow.shape) == ((4, 60, 80), (6, 60, 80))
    assert (stack.dtype, flow.dtype) == (np.uint8, np.float32)
    y, x = np.indices((60, 80), np.float32)
    for index in range(3):
        u, v = flow[index], flow[3 + index]
        back = cv2.remap(stack[index + 1], x + u, y + v, cv2.INTER_LINEAR)
        inside = (x + u > 3) & (x + u < 76) & (y + v > 3) & (y + v < 56)
        inside[:3], inside[-3:], inside[:, :3], inside[:, -3:] = False, False, False, False
        difference = np.abs(back.astype(int) - stack[index])[inside]
        assert np.median(difference) <= 2
        assert (difference > 12).mean() < (0.12 if pieces else 0.01)  # what is covered


def test_pictures_move() -> None:
    lengths = [
        float(np.abs(draw_drift([texture(0)], 2, np.random.default_rng(seed))[1]).mean())
        for seed in range(30)
    ]
    assert 0.1 < np.median(lengths) < 3
