"""Calibration of scores: temperature, expected calibration error, threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.decision.fusion import Scores, apply_temperature
from train.evaluation.metrics import Truth, log_likelihood

BINS = 15  # of the reliability diagram (Guo et al., "On Calibration of Modern Neural Networks")
_TEMPERATURES = np.geomspace(0.1, 10, 401)
_THRESHOLDS = np.arange(0.2, 0.996, 0.005).round(3)


def fit_temperature(scores: Scores, truth: Truth) -> float:
    """The temperature from 0.1 to 10 with the best log-likelihood of the true classes (N,), for
    scores (N, C)."""
    best = max(
        _TEMPERATURES, key=lambda t: log_likelihood(apply_temperature(scores, float(t)), truth)
    )
    return round(float(best), 3)


@dataclass(frozen=True, slots=True)
class Bin:
    """Scores of one width: their mean, the share that is right, and how many there are."""

    confidence: float
    accuracy: float
    count: int


def reliability(scores: Scores, truth: Truth) -> list[Bin]:
    """The best scores of (N, C) in BINS equal widths, empty ones left out."""
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == truth
    which = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        Bin(
            float(confidence[which == index].mean()),
            float(right[which == index].mean()),
            int((which == index).sum()),
        )
        for index in np.unique(which)
    ]


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error: |confidence - accuracy|, weighted by counts."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.confidence - one.accuracy) for one in bins) / total


def choose_threshold(negatives: NDArray[np.float32], false_alarms: float) -> float:
    """The lowest threshold that at most this share of `negatives` reaches: the best scores (N,) at
    moments of other actions. The highest there is where even that is not enough.
    """
    for threshold in _THRESHOLDS:
        if (negatives >= threshold).mean() <= false_alarms:
            return float(threshold)
    return float(_THRESHOLDS[-1])
