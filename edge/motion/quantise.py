"""Converts flow in pixels to bytes, clipped and rounded as networks are trained on it, and back."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

FlowBytes = NDArray[np.uint8]  # (2, H, W)


class FlowScale(Protocol):
    """The part of a motion method's spec that the bytes depend on. interval_s: flow is in px per
    this interval; bound_px: it is clipped to +-bound_px."""

    @property
    def interval_s(self) -> float: ...
    @property
    def bound_px(self) -> float: ...


@njit(nogil=True, cache=True, error_model="numpy")
def _to_bytes(flow, scale, out):  # type: ignore[no-untyped-def]
    for index in range(flow.size):
        level = flow[index] * scale + np.float32(127.5)
        level = min(max(level, np.float32(0)), np.float32(255))
        out[index] = np.uint8(level + np.float32(0.5))  # half up: no motion is 127.5, so 128


def quantise(flow: NDArray[np.float32], spec: FlowScale, interval_s: float) -> FlowBytes:
    """Flow in px over `interval_s` seconds to bytes: (2, H, W) float32 -> (2, H, W) uint8.

    Flow is first rescaled to `spec.interval_s`, then -bound_px..bound_px maps to 0..255, rounded
    half up and clipped. No motion becomes 128.
    """
    out = np.empty(flow.shape, np.uint8)
    scale = np.float32(127.5 / spec.bound_px * spec.interval_s / interval_s)
    _to_bytes(flow.reshape(-1), scale, out.reshape(-1))
    return out  # (2, H, W)


def to_pixels(flow: FlowBytes, spec: FlowScale) -> NDArray[np.float32]:
    """The flow of bytes (2, H, W) in px per `spec.interval_s`."""
    return (flow.astype(np.float32) - 127.5) * np.float32(spec.bound_px / 127.5)


def moving_share(flow: FlowBytes, spec: FlowScale, least_px: float = 1.0) -> float:
    """The share of the frame, 0..1, that moves by `least_px` or more per `spec.interval_s`, from
    every fourth pixel of the bytes (2, H, W)."""
    x, y = to_pixels(flow[:, ::4, ::4], spec)
    return float(np.mean(x * x + y * y >= least_px * least_px))
