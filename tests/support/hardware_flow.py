"""A stand-in for NVIDIA's optical flow hardware: TV-L1 in the hardware's format.

A vector for each cell of the grid, the mean over it, in quarters of a px, as S10.5. What it says of
the hardware is its format alone: a real one searches in another way.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge.motion.ofa import UNITS_PER_PX, HardwareFlow
from edge.motion.spec import PRESETS
from edge.motion.tvl1 import TVL1
from edge.video.frames import Plane

STEPS_PER_PX = 4


def cells(flow: NDArray[np.float32], grid_px: int) -> NDArray[np.int16]:
    """Flow (2, H, W) float32, px -> (ceil(H / grid), ceil(W / grid), 2) int16."""
    _, height, width = flow.shape
    rest = ((0, 0), (0, -height % grid_px), (0, -width % grid_px))
    padded = np.pad(flow, rest, mode="edge")
    split = padded.reshape(2, padded.shape[1] // grid_px, grid_px, -1, grid_px)
    quarters = np.rint(split.mean(axis=(2, 4)) * STEPS_PER_PX)
    units = quarters * (UNITS_PER_PX // STEPS_PER_PX)
    limits = np.iinfo(np.int16)
    return units.clip(limits.min, limits.max).astype(np.int16).transpose(1, 2, 0)


Measure = Callable[[Plane, Plane], NDArray[np.float32]]


def stand_in(
    size_hw: tuple[int, int], grid_px: int, measure: Measure | None = None
) -> HardwareFlow:
    """What such hardware would give of a flow (2, H, W), px. measure: None is TV-L1 (`fast`)."""
    exact = measure or TVL1(PRESETS["fast"], size_hw)

    def flow(previous: Plane, current: Plane) -> NDArray[np.int16]:
        return cells(exact(previous, current), grid_px)

    return flow
