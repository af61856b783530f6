"""Four methods of choosing a tensor's clipping range from its histogram."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from calibration.histogram import BINS, HistogramObserver

LEVELS = 127  # symmetric int8 uses -127 to 127
PERCENTILE = 0.9999  # as a share of the values

Method = Literal["min-max", "percentile", "entropy", "mse"]


def clipping_range(histogram: HistogramObserver, method: Method) -> float:
    """The clipping range: the |value| that maps to 127.

    min-max: the largest |value|. percentile: the smallest range that holds PERCENTILE of the
    values. entropy: the range with the smallest Kullback-Leibler divergence of the quantised values
    (Migacz, "8-bit Inference with TensorRT", 2017). mse: the range with the smallest mean squared
    error of rounding and clipping.
    """
    return METHODS[method](histogram)


def _min_max(histogram: HistogramObserver) -> float:
    return histogram.largest


def _percentile(histogram: HistogramObserver) -> float:
    below = np.cumsum(histogram.counts) / histogram.counts.sum()
    bins = int(np.searchsorted(below, PERCENTILE)) + 1
    return min(bins * histogram.limit / BINS, histogram.largest)


def _entropy(histogram: HistogramObserver) -> float:
    counts = histogram.counts.astype(np.float64)
    counts[0] = counts[1]  # the many exact zeros after an activation are exact in int8, too
    used = min(int(histogram.largest * BINS / histogram.limit) + 1, BINS)
    lengths = np.unique(np.linspace(LEVELS + 1, used, 101).astype(int))
    best = min(lengths, key=lambda length: _divergence(counts, int(length)))
    return min(float(best) * histogram.limit / BINS, histogram.largest)


def _divergence(counts: np.ndarray, length: int) -> float:
    """The Kullback-Leibler divergence between the histogram clipped to `length` bins, and the same
    quantised to LEVELS + 1 steps.
    """
    inside = counts[:length]
    clipped = inside.copy()
    clipped[-1] += counts[length:].sum()
    starts = np.arange(LEVELS + 1) * length // (LEVELS + 1)
    occupied = (inside > 0).astype(np.float64)
    bins_per_step = np.maximum(np.add.reduceat(occupied, starts), 1)
    level = np.add.reduceat(inside, starts) / bins_per_step
    coarse = np.repeat(level, np.diff(starts, append=length)) * occupied
    if not coarse.any():
        return float("inf")
    p, q = clipped / clipped.sum(), coarse / coarse.sum()
    positive = p > 0
    p, q = p[positive], q[positive]
    return float((p * np.log(p / np.maximum(q, 1e-12))).sum())


def _mse(histogram: HistogramObserver) -> float:
    occupied = histogram.counts > 0
    counts = histogram.counts[occupied].astype(np.float64)
    centres = ((np.arange(BINS) + 0.5) * (histogram.limit / BINS))[occupied]

    def square_error(range_: float) -> float:
        step = range_ / LEVELS
        rounded = np.minimum(np.rint(centres / step), LEVELS) * step
        return float((counts * (rounded - centres) ** 2).sum())

    return float(min(histogram.largest * np.linspace(0.2, 1, 161), key=square_error))


METHODS: dict[Method, Callable[[HistogramObserver], float]] = {
    "mse": _mse,
    "min-max": _min_max,
    "percentile": _percentile,
    "entropy": _entropy,
}
