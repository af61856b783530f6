"""A network's input from a stack of flows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from edge.motion.quantise import FlowBytes
from edge.video.frames import Normalisation


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _normalise(stack, scale, shift, out):  # type: ignore[no-untyped-def]
    for index in range(stack.size):
        out[index] = np.float32(stack[index]) * scale + shift


def stack_tensor(
    flows: Sequence[FlowBytes],
    normalisation: Normalisation,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Normalise and stack L flows (2, H, W) uint8, oldest first, to a network's input (2L, H, W)
    float32: all u, then all v (Simonyan and Zisserman, 2014).

    normalisation: one mean and one std, of bytes / 255. out: the array to fill; None is a new one.
    """
    stacked = np.stack(flows, axis=1)  # (2, L, H, W)
    if out is None:
        out = np.empty((2 * len(flows), *stacked.shape[2:]), np.float32)
    (mean,), (std,) = normalisation.mean, normalisation.std
    _normalise(
        stacked.reshape(-1), np.float32(1 / (255 * std)), np.float32(-mean / std), out.reshape(-1)
    )
    return out  # (2L, H, W)
