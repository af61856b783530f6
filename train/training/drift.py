"""Stacks of drawn motion, whose flow is known without labels: pieces of pictures that drift.

As in FlyingChairs (Dosovitskiy et al., "FlowNet: Learning Optical Flow with Convolutional
Networks", 2015), pieces of some pictures move by affine motions of their own over another one.
Where real clips hardly move and have edges everywhere, a network that starts from nothing finds no
motion better than none for thousands of steps; here it does within some hundred.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.video.frames import Plane

PIECES_MAX = 3  # over the picture behind
SPREADS_PX = (0.3, 1.0, 3.0)  # of the motion between two frames: its standard deviation
TURN, ZOOM = 0.006, 0.006  # standard deviations in rad and as a share, for each px of SPREADS_PX
RADII = (0.05, 0.3)  # of a piece, an ellipse, as a share of the picture's width

Matrix = NDArray[np.float64]  # (3, 3), affine


def draw_drift(
    pictures: Sequence[Plane], frames: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Pictures (H, W) uint8, all of one size, the one behind first -> a stack (frames, H, W), and
    its flow (2 (frames - 1), H, W) in px, all u and then all v.

    Each piece moves by the same affine map from one frame to the next, so that its flow stays the
    same; what it covers does not. In the middle frame the pieces are where they were cut out.
    """
    size_hw = pictures[0].shape
    masks = [None, *(_ellipse(size_hw, rng) for _ in pictures[1:])]
    maps = [_draw_map(size_hw, rng) for _ in pictures]
    fields = [_flow_of(each, size_hw) for each in maps]
    stack = np.empty((frames, *size_hw), np.uint8)
    flows = np.empty((2, frames, *size_hw), np.float32)
    for index in range(frames):
        for picture, mask, step, field in zip(pictures, masks, maps, fields, strict=True):
            moved = np.linalg.matrix_power(step, index - frames // 2)
            drawn = _warp(picture, moved, cv2.BORDER_REFLECT_101)
            if mask is None:
                stack[index], flows[:, index] = drawn, field
                continue
            inside = _warp(mask, moved, cv2.BORDER_CONSTANT) > 127
            stack[index][inside] = drawn[inside]
            flows[:, index, inside] = field[:, inside]
    return stack, flows[:, :-1].reshape(-1, *size_hw)


def _ellipse(size_hw: tuple[int, ...], rng: np.random.Generator) -> Plane:
    height, width = size_hw
    mask = np.zeros((height, width), np.uint8)
    centre = int(rng.uniform(0.1, 0.9) * width), int(rng.uniform(0.1, 0.9) * height)
    radii = tuple(max(int(radius * width), 1) for radius in rng.uniform(*RADII, 2))
    return cv2.ellipse(mask, centre, radii, float(rng.uniform(0, 180)), 0, 360, 255, -1)  # type: ignore[return-value]


def _draw_map(size_hw: tuple[int, ...], rng: np.random.Generator) -> Matrix:
    """A shift, and a turn and a zoom about some place in the picture."""
    height, width = size_hw
    spread = rng.choice(SPREADS_PX)
    turn, zoom = rng.normal(0, TURN * spread), 1 + rng.normal(0, ZOOM * spread)
    shift = rng.normal(0, spread, 2)
    centre = rng.uniform(0.2, 0.8, 2) * (width, height)
    linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    found = np.eye(3)
    found[:2, :2], found[:2, 2] = linear, centre - linear @ centre + shift
    return found


def _flow_of(step: Matrix, size_hw: tuple[int, ...]) -> NDArray[np.float32]:
    """(2, H, W), px: where each pixel goes, less where it is."""
    y, x = np.indices(size_hw)
    u = step[0, 0] * x + step[0, 1] * y + step[0, 2] - x
    v = step[1, 0] * x + step[1, 1] * y + step[1, 2] - y
    return np.stack([u, v]).astype(np.float32)


def _warp(picture: Plane, moved: Matrix, border: int) -> Plane:
    height, width = picture.shape
    return cv2.warpAffine(picture, moved[:2], (width, height), borderMode=border)  # type: ignore[return-value]
