"""Motion vectors painted as a field, as numba compiles it (see edge.motion.codec)."""

from __future__ import annotations

import numpy as np


def paint(boxes, velocities, sums, counts):  # type: ignore[no-untyped-def]
    """See edge.motion.codec.velocity_field. sums: (2, H, W), the field;
    counts: (H, W), room for how many blocks each pixel has."""
    sums[...] = np.float32(0)
    counts[...] = 0
    most = np.int32(0)
    height, width = counts.shape
    for index in range(len(boxes)):
        # a pixel is in a box if its centre is, so that boxes side by side share none and leave none
        left = max(int(np.ceil(boxes[index, 0] - 0.5)), 0)
        top = max(int(np.ceil(boxes[index, 1] - 0.5)), 0)
        right = min(int(np.ceil(boxes[index, 2] - 0.5)), width)
        bottom = min(int(np.ceil(boxes[index, 3] - 0.5)), height)
        u, v = velocities[index, 0], velocities[index, 1]
        for row in range(top, bottom):
            for column in range(left, right):
                sums[0, row, column] += u
                sums[1, row, column] += v
                blocks = counts[row, column] + 1
                counts[row, column] = blocks
                most = max(most, blocks)
    if most < 2:
        return
    for row in range(height):
        for column in range(width):
            if counts[row, column] > 1:
                sums[0, row, column] /= counts[row, column]
                sums[1, row, column] /= counts[row, column]
