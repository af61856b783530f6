"""Four methods to choose a tensor's clipping range from its histogram."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from calibration.histogram import BINS, HistogramObserver

LEVELS = 127  # of a magnitude: symmetric int8 uses -127 ... 127
PERCENTILE = 0.9999

Method = Literal["min-max", "percentile", "entropy", "mse"]


def clipping_range(magnitudes: HistogramObserver, method: Method) -> float:
    """The |value| that maps to 127.

    min-max: the largest seen. percentile: that of PERCENTILE of all values. entropy: where the
    values lose least information (Kullback-Leibler; Migacz, "8-bit Inference with TensorRT", 2017).
    mse: where the square error of rounding and clipping together is least.
    """
    return METHODS[method](magnitudes)


def _min_max(magnitudes: HistogramObserver) -> float:
    return magnitudes.largest


def _percentile(magnitudes: HistogramObserver) -> float:
    below = np.cumsum(magnitudes.counts) / magnitudes.counts.sum()
    bins = int(np.searchsorted(below, PERCENTILE)) + 1
    return min(bins * magnitudes.limit / BINS, magnitudes.largest)


def _entropy(magnitudes: HistogramObserver) -> float:
    counts = magnitudes.counts.astype(np.float64)
    counts[0] = counts[1]  # exact zeros, of which an activation leaves many, cost nothing anyhow
    used = min(int(magnitudes.largest * BINS / magnitudes.limit) + 1, BINS)
    lengths = np.unique(np.linspace(LEVELS + 1, used, 101).astype(int))
    best = min(lengths, key=lambda length: _divergence(counts, int(length)))
    return min(float(best) * magnitudes.limit / BINS, magnitudes.largest)


def _divergence(counts: np.ndarray, length: int) -> float:
    """Of the histogram clipped to `length` bins from the same in LEVELS + 1 steps."""
    kept = counts[:length]
    clipped = kept.copy()
    clipped[-1] += counts[length:].sum()
    starts = np.arange(LEVELS + 1) * length // (LEVELS + 1)
    seen = (kept > 0).astype(np.float64)
    in_step = np.maximum(np.add.reduceat(seen, starts), 1)
    level = np.add.reduceat(kept, starts) / in_step
    coarse = np.repeat(level, np.diff(starts, append=length)) * seen
    if not coarse.any():
        return float("inf")
    p, q = clipped / clipped.sum(), coarse / coarse.sum()
    held = p > 0
    return float((p[held] * np.log(p[held] / np.maximum(q[held], 1e-12))).sum())


def _mse(magnitudes: HistogramObserver) -> float:
    seen = magnitudes.counts > 0
    counts = magnitudes.counts[seen].astype(np.float64)
    centres = ((np.arange(BINS) + 0.5) * (magnitudes.limit / BINS))[seen]

    def square_error(range_: float) -> float:
        step = range_ / LEVELS
        rounded = np.minimum(np.rint(centres / step), LEVELS) * step
        return float((counts * (rounded - centres) ** 2).sum())

    return float(min(magnitudes.largest * np.linspace(0.2, 1, 161), key=square_error))


METHODS: dict[Method, Callable[[HistogramObserver], float]] = {
    "mse": _mse,
    "min-max": _min_max,
    "percentile": _percentile,
    "entropy": _entropy,
}
