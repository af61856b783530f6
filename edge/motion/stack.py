"""From flow in pixels to the temporal network's input: clip, round, keep L of them, normalise."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from edge.motion.spec import FlowSpec
from edge.video.frames import Normalisation

FlowBytes = NDArray[np.uint8]

# grouped: u0 ... u9 v0 ... v9 (Simonyan's figure, the Keras seed); interleaved: u0 v0 u1 v1 ...
Layout = Literal["grouped", "interleaved"]


@njit(nogil=True, cache=True, error_model="numpy")
def _to_bytes(flow, scale, out):  # type: ignore[no-untyped-def]
    for index in range(flow.size):
        level = flow[index] * scale + np.float32(127.5)
        level = min(max(level, np.float32(0)), np.float32(255))
        out[index] = np.uint8(level + np.float32(0.5))  # half up: no motion is 127.5, so 128


def quantise(flow: NDArray[np.float32], spec: FlowSpec, interval_s: float) -> FlowBytes:
    """Flow in px over `interval_s` seconds to bytes: (2, H, W) float32 -> (2, H, W) uint8.

    Flow is first rescaled to `spec.interval_s`, then -bound_px..bound_px maps to 0..255, rounded
    half up and saturating: it never wraps. No motion becomes 128.
    """
    out = np.empty(flow.shape, np.uint8)
    scale = np.float32(127.5 / spec.bound_px * spec.interval_s / interval_s)
    _to_bytes(flow.reshape(-1), scale, out.reshape(-1))
    return out  # (2, H, W)


def to_pixels(flow: FlowBytes, spec: FlowSpec) -> NDArray[np.float32]:
    """The flow that bytes (2, H, W) stand for, in px per `spec.interval_s`."""
    return (flow.astype(np.float32) - 127.5) * np.float32(spec.bound_px / 127.5)


def moving_share(flow: FlowBytes, spec: FlowSpec, least_px: float = 1.0) -> float:
    """The share of the picture that moves by `least_px` per `spec.interval_s` or more, 0..1, from
    every fourth pixel of the bytes (2, H, W)."""
    x, y = to_pixels(flow[:, ::4, ::4], spec)
    return float(np.mean(x * x + y * y >= least_px * least_px))


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _normalise(stack, scale, shift, out):  # type: ignore[no-untyped-def]
    for index in range(stack.size):
        out[index] = np.float32(stack[index]) * scale + shift


def stack_tensor(
    flows: list[FlowBytes],
    layout: Layout,
    normalisation: Normalisation,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """The temporal network's input, (2L, H, W) float32, from L flows (2, H, W), oldest first; in
    `out` where it is given."""
    stacked = np.stack(flows, axis=1 if layout == "grouped" else 0)  # (2, L, H, W) or (L, 2, H, W)
    if out is None:
        out = np.empty((stacked.shape[0] * stacked.shape[1], *stacked.shape[2:]), np.float32)
    (mean,), (std,) = normalisation.mean, normalisation.std
    _normalise(
        stacked.reshape(-1), np.float32(1 / (255 * std)), np.float32(-mean / std), out.reshape(-1)
    )
    return out  # (2L, H, W)


class FlowRing:
    """The last L flows, oldest first."""

    def __init__(self, length: int) -> None:
        self.length = length
        self._flows: list[FlowBytes] = []

    def push(self, flow: FlowBytes) -> None:
        """Add the newest (2, H, W) flow; the oldest goes when there are more than L."""
        self._flows.append(flow)
        del self._flows[: -self.length]

    def clear(self) -> None:
        self._flows.clear()

    def __len__(self) -> int:
        return len(self._flows)

    @property
    def flows(self) -> list[FlowBytes]:
        return list(self._flows)
