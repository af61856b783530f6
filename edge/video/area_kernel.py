"""Area interpolation of a plane, as numba compiles it (see edge.video.area)."""

from __future__ import annotations

import numpy as np

FASTMATH = {"nnan", "ninf", "nsz", "contract"}  # see edge.motion.tvl1_kernel


def resize(  # type: ignore[no-untyped-def]
    plane, left, row_bounds, row_weights, column_bounds, column_weights, sums, out
):
    """plane: (H, W), of which columns from `left` on are resized. row_bounds, column_bounds: first
    and last source pixel of each output row and column, (rows, 2) and (columns, 2), rising, counted
    from row 0 and from `left`; their weights: (rows, 3) and (columns, 3), of the first, of those
    between, of the last. sums: room for a row of that part, as wide. out: (rows, columns), rounded
    half to even.

    Rows are added up first, since neighbours in a row are neighbours in memory: vector code.
    """
    width = sums.shape[0]
    for row in range(out.shape[0]):
        first, last = row_bounds[row, 0], row_bounds[row, 1]
        weight = row_weights[row, 0]
        source = plane[first, left : left + width]
        for x in range(width):
            sums[x] = weight * np.float32(source[x])
        for y in range(first + 1, last + 1):
            weight = row_weights[row, 2] if y == last else row_weights[row, 1]
            source = plane[y, left : left + width]
            for x in range(width):
                sums[x] += weight * np.float32(source[x])
        target = out[row]
        for column in range(out.shape[1]):
            begin, end = np.uint32(column_bounds[column, 0]), np.uint32(column_bounds[column, 1])
            total = column_weights[column, 0] * sums[begin]
            if end > begin:
                between = np.float32(0)
                for x in range(begin + np.uint32(1), end):
                    between += sums[x]
                total += column_weights[column, 1] * between + column_weights[column, 2] * sums[end]
            target[column] = np.uint8(min(np.rint(total), np.float32(255)))
