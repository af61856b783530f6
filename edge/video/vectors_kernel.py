"""Velocities from FFmpeg's motion vectors, as numba compiles it (see edge.video.vector_reader)."""

from __future__ import annotations

import numpy as np

# Where FFmpeg's AVMotionVector has what, counted in numbers of the type.
_SOURCE, _MOTION_X, _MOTION_Y = 0, 6, 7  # int32
_DST_X, _DST_Y, _SCALE = 5, 6, 16  # int16
_W, _H = 4, 5  # uint8


def velocities(  # type: ignore[no-untyped-def]
    raw32, raw16, raw8, per_px_earlier, per_px_later, seen, boxes, speeds, found
):
    """raw32, raw16, raw8: the vectors, (N, 10), (N, 20), (N, 40). per_px_earlier, per_px_later: px
    per second of a vector of one px to a picture shown earlier or later; 0: it is not known, and
    such vectors are left out. seen: (H + 1, W + 1) zeros, of the picture. boxes: (N, 4),
    speeds: (N, 2), px per second, of which the first found[0] are filled. found[1]: how many px of
    the picture have a vector; a block that has two counts once."""
    height, width = seen.shape[0] - 1, seen.shape[1] - 1
    for index in range(raw32.shape[0]):
        source = raw32[index, _SOURCE]
        per_px = per_px_earlier if source < 0 else per_px_later if source > 0 else 0.0
        denominator = raw16[index, _SCALE] & 0xFFFF  # it is unsigned
        if per_px == 0.0 or denominator == 0:
            continue
        at = found[0]
        found[0] += 1
        x, y = np.float32(raw16[index, _DST_X]), np.float32(raw16[index, _DST_Y])
        half_w = np.float32(raw8[index, _W]) / np.float32(2)
        half_h = np.float32(raw8[index, _H]) / np.float32(2)
        boxes[at, 0], boxes[at, 1] = x - half_w, y - half_h
        boxes[at, 2], boxes[at, 3] = x + half_w, y + half_h
        scale = per_px / np.float64(denominator)
        speeds[at, 0] = raw32[index, _MOTION_X] * scale
        speeds[at, 1] = raw32[index, _MOTION_Y] * scale
        row = min(max(np.int64(raw16[index, _DST_Y]), 0), height)
        column = min(max(np.int64(raw16[index, _DST_X]), 0), width)
        if seen[row, column] == 0:
            seen[row, column] = 1
            inside_w = min(boxes[at, 2], np.float32(width)) - max(boxes[at, 0], np.float32(0))
            inside_h = min(boxes[at, 3], np.float32(height)) - max(boxes[at, 1], np.float32(0))
            if inside_w > 0 and inside_h > 0:
                found[1] += np.int64(inside_w * inside_h)
