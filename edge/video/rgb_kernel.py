"""RGB of a frame, as numba compiles it (see edge.video.frames.rgb_tensor)."""

from __future__ import annotations

import numpy as np
from numba import njit

FASTMATH = {"nnan", "ninf", "nsz", "contract"}  # see edge.motion.tvl1_kernel
_compiled = njit(nogil=True, fastmath=FASTMATH, error_model="numpy")


@_compiled
def _chroma_row(u, v, red_v, green_u, green_v, blue_u, out):  # type: ignore[no-untyped-def]
    """What a row of chroma adds to luma in red, green and blue, (3, 2 x chroma), each twice."""
    for column in range(u.shape[0]):
        cb = np.float32(u[column]) - np.float32(128)
        cr = np.float32(v[column]) - np.float32(128)
        for half in range(2):
            out[0, 2 * column + half] = red_v * cr
            out[1, 2 * column + half] = -green_u * cb - green_v * cr
            out[2, 2 * column + half] = blue_u * cb


@_compiled
def _colour_row(y, chroma, scale, shift, out):  # type: ignore[no-untyped-def]
    """One colour of one row: with two arrays to read and one to write it becomes vector code."""
    for column in range(y.shape[0]):
        luma = (np.float32(y[column]) - np.float32(16)) * np.float32(255.0 / 219.0)
        level = min(max(luma + chroma[column], np.float32(0)), np.float32(255))
        out[column] = level * scale + shift


def rgb_planes(  # type: ignore[no-untyped-def]
    y, u, v, red_v, green_u, green_v, blue_u, scale, shift, chroma, out
):
    """Planes of a frame to (3, H, W). chroma: room for what a row of it adds, (3, W)."""
    for row in range(y.shape[0]):
        if row % 2 == 0:
            _chroma_row(u[row >> 1], v[row >> 1], red_v, green_u, green_v, blue_u, chroma)
        for colour in range(3):
            _colour_row(y[row], chroma[colour], scale[colour], shift[colour], out[colour, row])
