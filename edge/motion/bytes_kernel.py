"""Between flow, bytes and what networks see, as numba compiles it."""

from __future__ import annotations

import numpy as np

FASTMATH = {"nnan", "ninf", "nsz", "contract"}  # see edge.motion.tvl1_kernel


def to_bytes(flow, scale, out):  # type: ignore[no-untyped-def]
    """See edge.motion.quantise.quantise."""
    for index in range(flow.size):
        level = flow[index] * scale + np.float32(127.5)
        level = min(max(level, np.float32(0)), np.float32(255))
        out[index] = np.uint8(level + np.float32(0.5))  # half up: no motion is 127.5, becomes 128


def normalise(values, scale, shift, out):  # type: ignore[no-untyped-def]
    """See edge.motion.stack.normalise_bytes."""
    for index in range(values.size):
        out[index] = np.float32(values[index]) * scale + shift
