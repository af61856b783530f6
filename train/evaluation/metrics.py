"""Metrics of scores (clips, C), given the index of each clip's true class (clips,)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.decision.fusion import Scores, best_classes

Truth = NDArray[np.int64]


def top_k(scores: Scores, truth: Truth, k: int) -> float:
    """The share of clips whose class is among the k best, 0 to 1. Of equal scores the class with
    the smaller index is better.
    """
    return float((best_classes(scores, k) == truth[:, None]).any(axis=1).mean())


def confusion(scores: Scores, truth: Truth) -> NDArray[np.int64]:
    """The confusion matrix (C, C): at [i, j] the number of clips of class i labelled as class j."""
    counts = np.zeros((scores.shape[1], scores.shape[1]), np.int64)
    np.add.at(counts, (truth, scores.argmax(axis=1)), 1)
    return counts


def right_by_class(counts: NDArray[np.int64], classes: tuple[str, ...]) -> dict[str, str]:
    """Of a confusion matrix, text such as "3 of 4" (clips labelled correctly, clips) by class name,
    for each class that has clips.
    """
    return {
        label: f"{counts[index, index]} of {counts[index].sum()}"
        for index, label in enumerate(classes)
        if counts[index].sum()
    }


def log_likelihood(scores: Scores, truth: Truth) -> float:
    """The mean over the clips of the log of the true class's score; scores below 1e-9 count as
    1e-9.
    """
    return float(np.log(np.maximum(scores[np.arange(len(truth)), truth], 1e-9)).mean())
