"""The motion vectors of a coded picture, as boxes that move, and what crops, turns and resizes make
of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class MotionVectors:
    """How the blocks of a picture were moving when it was shown.

    boxes: (N, 4) float32, left, top, right and bottom in px of the frame; they may overlap and
    reach beyond the frame. velocities: (N, 2) float32, px per second to the right and downwards.
    coverage: the share of the coded picture, 0..1, that has a vector. repeated: the picture has
    none of its own, as an intra picture, and these are a neighbour's.
    """

    boxes: Array
    velocities: Array
    coverage: float
    repeated: bool = False

    def resized(self, view: tuple[int, int, int, int], size_hw: tuple[int, int]) -> MotionVectors:
        """After the frame is cropped to `view` (top, left, height, width; px) and resized to
        `size_hw`."""
        top, left, view_h, view_w = view
        scale = np.array([size_hw[1] / view_w, size_hw[0] / view_h], np.float32)
        origin = np.array([left, top, left, top], np.float32)
        boxes = (self.boxes - origin) * np.tile(scale, 2)
        return replace(self, boxes=boxes, velocities=self.velocities * scale)

    def hidden(self, pixels: NDArray[np.bool_]) -> MotionVectors:
        """Without the boxes whose centre is hidden: nothing is known to move there.
        pixels: whether each of the frame is hidden, (H, W)."""
        height, width = pixels.shape
        left, top, right, bottom = self.boxes.T
        columns = np.clip((left + right) / 2, 0, width - 1).astype(np.intp)
        rows = np.clip((top + bottom) / 2, 0, height - 1).astype(np.intp)
        kept = ~pixels[rows, columns]
        return replace(self, boxes=self.boxes[kept], velocities=self.velocities[kept])

    def mirrored(self, width: int) -> MotionVectors:
        """After left and right of a frame of `width` px are swapped."""
        left, top, right, bottom = self.boxes.T
        boxes = np.stack([width - right, top, width - left, bottom], axis=1)
        return replace(
            self, boxes=boxes, velocities=self.velocities * np.array([-1, 1], np.float32)
        )

    def turned_clockwise(self, height: int) -> MotionVectors:
        """After a frame of `height` px is turned by a quarter."""
        left, top, right, bottom = self.boxes.T
        boxes = np.stack([height - bottom, left, height - top, right], axis=1)
        u, v = self.velocities.T
        return replace(self, boxes=boxes, velocities=np.stack([-v, u], axis=1))


def no_vectors() -> MotionVectors:
    """Of a picture before any motion is known."""
    return MotionVectors(np.empty((0, 4), np.float32), np.empty((0, 2), np.float32), 0.0)


def pack_vectors(frames: Sequence[MotionVectors]) -> Array:
    """The vectors of several frames in one array, (M, 7) float32: number of the frame, box,
    velocity."""
    rows = [
        np.column_stack([np.full(len(each.boxes), number), each.boxes, each.velocities])
        for number, each in enumerate(frames)
    ]
    return np.concatenate(rows).astype(np.float32)


def unpack_vectors(rows: Array, count: int) -> list[MotionVectors]:
    """The vectors of `count` frames that `pack_vectors` joined; what else is known of them is not
    kept."""
    each = (rows[rows[:, 0] == number] for number in range(count))
    return [MotionVectors(of[:, 1:5], of[:, 5:], 1.0) for of in each]
