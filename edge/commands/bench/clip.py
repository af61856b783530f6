"""Generates the default clip of `twostream bench`: textured, moving, always the same."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edge.outputs.video_writer import VideoWriter

FRAMES, SIZE_HW, RATE = 300, (240, 320), 25.0


def write_bench_clip(path: Path, frames: int = FRAMES, size_hw: tuple[int, int] = SIZE_HW) -> Path:
    """H.264 at 25 frames a second; a texture drifts and a disc goes over it. Returns `path`."""
    height, width = size_hw
    random = np.random.default_rng(0)
    coarse = random.integers(40, 220, (height // 8 + 2, 2 * width // 8 + 2, 3), np.uint8)
    texture = cv2.resize(coarse, (2 * width, height), interpolation=cv2.INTER_CUBIC)
    with VideoWriter(path, size_hw, RATE) as writer:
        for index in range(frames):
            left = index % width
            picture = texture[:, left : left + width].copy()
            centre = (5 * index % width, height // 2 + int(height / 4 * np.sin(index / 9)))
            cv2.circle(picture, centre, height // 8, (30, 60, 230), -1)
            writer.write(picture, index / RATE)
        writer.finish()
    return path
