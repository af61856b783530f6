"""The open-set score: whether a picture shows one of the bundle's actions, or none of them.

It decides between a label and "unknown", and is kept apart from the confidence that is shown: the
temperatures that make a confidence as sure as it is right also press the scores of right and wrong
labels together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import DecisionKind, DecisionSpec
from edge.decision.fusion import Logits, Scores


def _margin(mean: NDArray[Any]) -> NDArray[Any]:
    """How far each of (..., C) is above the mean of the others."""
    count = mean.shape[-1]
    return (mean * count - mean.sum(axis=-1, keepdims=True)) / (count - 1)


# What each kind makes of the mean over the window (..., C): the score of each class.
_SCORES: Final[dict[DecisionKind, Callable[[NDArray[Any]], NDArray[Any]]]] = {
    "confidence": lambda mean: mean,  # of the confidences that are shown
    "margin": _margin,  # of the summed logits
    "best": lambda mean: np.maximum(_margin(mean), 0),  # the best class always reaches 0
}


def summed(logits: Mapping[str, Logits]) -> Scores:
    """The logits (..., C) of all streams added as they are, without softmax and temperature."""
    return np.sum(list(logits.values()), axis=0, dtype=np.float32)  # type: ignore[no-any-return]


def evidence(kind: DecisionKind, logits: Mapping[str, Logits], fused: Scores) -> Scores:
    """What a kind takes the mean of over the window, (..., C).

    logits: (..., C) by stream. fused: (..., C), the confidences.
    """
    return fused if kind == "confidence" else summed(logits)


def raw_scores(kind: DecisionKind, mean: Scores) -> Scores:
    """The score (..., C) of each class from the mean evidence (..., C) over the window; the
    manifest's threshold is in its unit."""
    return np.asarray(_SCORES[kind](mean), np.float32)


def open_set_scores(spec: DecisionSpec, mean: Scores) -> Scores:
    """The scores (..., C) that are compared with `threshold_of`, from the mean evidence (..., C).

    A margin is given as a multiple of the bundle's threshold for the class, so that 1.2 is a fifth
    more than is needed, whatever the networks.
    """
    scores = raw_scores(spec.kind, mean)
    if spec.kind != "margin":
        return scores
    least = np.asarray(spec.class_thresholds or spec.threshold, np.float32)  # () or (C,)
    return np.asarray(scores / least, np.float32)


def threshold_of(spec: DecisionSpec) -> float:
    """The least of `open_set_scores` that shows a label."""
    if spec.threshold is None:
        return 0.0
    return spec.threshold if spec.kind == "confidence" else 1.0


def next_shown(shown: int | None, scores: Scores, threshold: float, hold: float) -> int | None:
    """The class whose label is shown, or None. It takes the threshold to appear; then the class
    with the best score stays while that is at least the share `hold` of it (hysteresis).

    shown: of the frame before. scores: (C,); of equal scores the first class wins.
    """
    best = int(np.argmax(scores))
    least = threshold * hold if best == shown else threshold
    return best if scores[best] >= least else None
