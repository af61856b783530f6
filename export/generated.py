"""Generated videos: a patch that moves over a background. They show nobody and are nobody's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.outputs.video_writer import VideoWriter

SIZE_HW = 240, 320
RATE = 25.0  # frames a second
_PATCH_PX, _SWING_PX = 96, 48
Picture = NDArray[np.uint8]  # (H, W, 3)

# How far (x, y) the patch goes, as a share of _SWING_PX, by the sine of its phase.
MOTIONS = {"bounce": (0.0, 1.0), "slide": (1.0, 0.0), "rest": (0.0, 0.0)}


def write_generated(path: Path, motions: Sequence[str], seconds: float, seed: int) -> None:
    """Write a video in which the patch makes each of some MOTIONS for so long, one after another.

    The pictures of all motions look alike; only what moves tells them apart. seed: of colours,
    place and speed. Raises OutputError if it cannot be written.
    """
    rng = np.random.default_rng(seed)
    background, patch = _texture(rng, SIZE_HW), _texture(rng, (_PATCH_PX, _PATCH_PX))
    middle = np.array(SIZE_HW[::-1]) // 2 + rng.integers(-20, 21, 2)
    step, phase = rng.uniform(0.25, 0.4), rng.uniform(0, 6)  # radians
    frames = round(seconds * RATE)
    with VideoWriter(path, SIZE_HW, RATE) as writer:
        for index in range(frames * len(motions)):
            reach = np.array(MOTIONS[motions[index // frames]]) * _SWING_PX
            left, top = (middle + reach * np.sin(phase + index * step)).astype(int) - _PATCH_PX // 2
            picture = background.copy()
            picture[top : top + _PATCH_PX, left : left + _PATCH_PX] = patch
            writer.write(picture, index / RATE)
        writer.finish()


def _texture(rng: np.random.Generator, size_hw: tuple[int, int]) -> Picture:
    """Smooth blobs of colour: optical flow needs something to hold on to."""
    small = rng.integers(40, 216, (size_hw[0] // 8, size_hw[1] // 8, 3), np.uint8)
    return cv2.resize(small, size_hw[::-1], interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]
