"""Frames that no camera gave."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge.video.frames import Frame


def street(index: int, size_hw: tuple[int, int] = (240, 320)) -> Frame:
    """A drifting pattern with colour, in any size."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    luma = (126 + 60 * np.sin((x - 2 * index) / 9) * np.sin((y + index) / 11)).astype(np.uint8)
    rows, columns = (size_hw[0] + 1) // 2, (size_hw[1] + 1) // 2
    u = np.broadcast_to(np.linspace(60, 200, columns), (rows, columns)).astype(np.uint8)
    v = np.full((rows, columns), 90 + index, np.uint8)
    return Frame(luma, u, v, index / 25, index)


def noise_frame(height: int, width: int, **changes: object) -> Frame:
    """Half noise, half gradient, so that rounding and range both matter."""
    rng = np.random.default_rng(height * width)
    half = ((height + 1) // 2, (width + 1) // 2)
    y = rng.integers(0, 256, (height, width), np.uint8)
    y[: height // 2] = np.linspace(0, 255, width).astype(np.uint8)
    u, v = (rng.integers(0, 256, half, np.uint8) for _ in range(2))
    frame = Frame(y, u, v, 0.0, 0)
    return replace(frame, **changes)  # type: ignore[arg-type]
