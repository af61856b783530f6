"""A stack of flows as bytes, and bytes as a network sees them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.compiled import Kernel
from edge.motion.quantise import FlowBytes
from edge.video.frames import Normalisation

_normalise = Kernel(
    "edge.motion.bytes_kernel",
    "normalise",
    *("uint8[1]", "float32", "float32", "float32[1]!"),
)


def stack_flows(
    flows: Sequence[FlowBytes], out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Stack L flows (2, H, W) uint8, oldest first, to (2L, H, W) uint8: all u, then all v (Simonyan
    and Zisserman, 2014). out: the array to fill; None is a new one."""
    length, (_, *size_hw) = len(flows), flows[0].shape
    if out is None:
        out = np.empty((2 * length, *size_hw), np.uint8)
    np.stack(flows, axis=1, out=out.reshape(2, length, *size_hw))
    return out  # (2L, H, W)


def scale_and_shift(normalisation: Normalisation) -> tuple[float, float]:
    """What a normalisation with one mean does to a byte: byte * scale + shift, in float32."""
    (mean,), (std,) = normalisation.mean, normalisation.std
    return float(np.float32(1 / (255 * std))), float(np.float32(-mean / std))


def normalise_bytes(values: NDArray[np.uint8], normalisation: Normalisation) -> NDArray[np.float32]:
    """uint8 to float32 of the same shape. normalisation: one mean and one std, of bytes / 255."""
    out = np.empty(values.shape, np.float32)
    scale, shift = map(np.float32, scale_and_shift(normalisation))
    _normalise(values.reshape(-1), scale, shift, out.reshape(-1))
    return out
