"""Converts flow in px to bytes, clipped and rounded as in training, and back."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.compiled import Kernel

FlowBytes = NDArray[np.uint8]  # (2, H, W)

_to_bytes = Kernel("edge.motion.bytes_kernel", "to_bytes", "float32[1]", "float32", "uint8[1]!")


class FlowScale(Protocol):
    """The part of a motion spec that the bytes depend on. interval_s: flow is in px per this
    interval; bound_px: flow is clipped to +-bound_px."""

    @property
    def interval_s(self) -> float: ...
    @property
    def bound_px(self) -> float: ...


def quantise(flow: NDArray[np.float32], spec: FlowScale, interval_s: float) -> FlowBytes:
    """Convert flow in px per `interval_s` seconds to bytes: (2, H, W) float32 -> (2, H, W) uint8.

    Flow is rescaled to `spec.interval_s`, then -bound_px..bound_px is mapped to 0..255, clipped and
    rounded half up. No motion becomes 128.
    """
    out = np.empty(flow.shape, np.uint8)
    scale = np.float32(127.5 / spec.bound_px * spec.interval_s / interval_s)
    _to_bytes(flow.reshape(-1), scale, out.reshape(-1))
    return out  # (2, H, W)


def to_pixels(flow: FlowBytes, spec: FlowScale) -> NDArray[np.float32]:
    """Convert bytes to flow in px per `spec.interval_s`: (2, H, W) uint8 -> (2, H, W) float32."""
    return (flow.astype(np.float32) - 127.5) * np.float32(spec.bound_px / 127.5)


def moving_share(flow: FlowBytes, spec: FlowScale, min_px: float = 1.0) -> float:
    """The share of pixels, 0..1, that move by `min_px` or more per `spec.interval_s`. flow: bytes
    (2, H, W), of which every fourth row and column is used."""
    u, v = to_pixels(flow[:, ::4, ::4], spec)
    return float(np.mean(u * u + v * v >= min_px * min_px))
