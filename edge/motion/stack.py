"""A stack of flows as a network's input."""

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
    """A temporal network's input, (2L, H, W) float32, from L flows (2, H, W), oldest first: all u,
    then all v (Simonyan and Zisserman, 2014; the Keras project). out: where to write it; None: a
    new array."""
    stacked = np.stack(flows, axis=1)  # (2, L, H, W)
    if out is None:
        out = np.empty((2 * len(flows), *stacked.shape[2:]), np.float32)
    (mean,), (std,) = normalisation.mean, normalisation.std
    _normalise(
        stacked.reshape(-1), np.float32(1 / (255 * std)), np.float32(-mean / std), out.reshape(-1)
    )
    return out  # (2L, H, W)
