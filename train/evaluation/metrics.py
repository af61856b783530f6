"""Metrics of scores (clips, C) with the index of each clip's class (clips,)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.decision.fusion import Scores, best_classes

Truth = NDArray[np.int64]


def top_k(scores: Scores, truth: Truth, k: int) -> float:
    """The share of clips whose class is among the k best; the first of equal classes wins."""
    return float((best_classes(scores, k) == truth[:, None]).any(axis=1).mean())


def confusion(scores: Scores, truth: Truth) -> NDArray[np.int64]:
    """The number of clips of class i that were labelled class j, (C, C)."""
    counts = np.zeros((scores.shape[1], scores.shape[1]), np.int64)
    np.add.at(counts, (truth, scores.argmax(axis=1)), 1)
    return counts


def right_by_class(counts: NDArray[np.int64], classes: tuple[str, ...]) -> dict[str, str]:
    """ "3 of 4" for each class that has clips."""
    return {
        label: f"{counts[index, index]} of {counts[index].sum()}"
        for index, label in enumerate(classes)
        if counts[index].sum()
    }


def log_likelihood(scores: Scores, truth: Truth) -> float:
    """The mean log of the score of each clip's true class."""
    return float(np.log(np.maximum(scores[np.arange(len(truth)), truth], 1e-9)).mean())
