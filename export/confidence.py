"""Calibration of scores: reliability diagram, expected calibration error.

After Guo et al., "On Calibration of Modern Neural Networks", 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge.decision.fusion import Scores
from train.evaluation.metrics import Truth

BINS = 15  # of the reliability diagram


@dataclass(frozen=True, slots=True)
class Bin:
    """A bin of the reliability diagram. confidence: mean of its best scores; accuracy: share of
    them that are right; count: their number.
    """

    confidence: float
    accuracy: float
    count: int


def reliability(scores: Scores, truth: Truth) -> list[Bin]:
    """The reliability diagram of scores (N, C): the best score of each row in BINS bins of equal
    width, without empty bins.
    """
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == truth
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        Bin(
            float(confidence[bins == index].mean()),
            float(right[bins == index].mean()),
            int((bins == index).sum()),
        )
        for index in np.unique(bins)
    ]


def calibration_error(bins: list[Bin]) -> float:
    """The expected calibration error, 0 to 1: the mean of |confidence - accuracy|, weighted by
    counts.
    """
    total = sum(each.count for each in bins)
    return sum(each.count * abs(each.confidence - each.accuracy) for each in bins) / total
