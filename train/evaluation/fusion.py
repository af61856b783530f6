"""Late fusion of both streams' scores: average, weights, and a linear SVM."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.svm import LinearSVC

from edge.decision.fusion import Scores
from edge.errors import DataError
from train.evaluation.metrics import Truth, log_likelihood, top_k

STEPS = 20  # weights are searched in twentieths
PENALTIES = (0.1, 1.0, 10.0, 100.0)  # of the SVM


def weighted(spatial: Scores, temporal: Scores, spatial_weight: float) -> Scores:
    """Scores (..., C) with weights that add up to 1."""
    return (spatial_weight * spatial + (1 - spatial_weight) * temporal).astype(np.float32)


def search_weight(spatial: Scores, temporal: Scores, truth: Truth, least: float = 0.0) -> float:
    """The spatial weight with the best top-1 of these clips (N, C); among equals the one with the
    best log-likelihood. Neither stream gets less than `least`.
    """
    candidates = [step / STEPS for step in range(STEPS + 1)]
    usable = [w for w in candidates if least <= w <= 1 - least]

    def worth(weight: float) -> tuple[float, float]:
        fused = weighted(spatial, temporal, weight)
        return top_k(fused, truth, 1), log_likelihood(fused, truth)

    return max(usable, key=worth)


def stacked(spatial: Scores, temporal: Scores) -> NDArray[np.float32]:
    """Both streams' scores (N, C), each clip's of length 1, side by side: (N, 2C)."""
    parts = [s / np.linalg.norm(s, axis=1, keepdims=True) for s in (spatial, temporal)]
    return np.concatenate(parts, axis=1)


def fit_svm(
    inputs: NDArray[np.float32],
    truth: Truth,
    held: NDArray[np.float32],
    held_truth: Truth,
    seed: int = 1,
) -> LinearSVC:
    """A multi-class linear SVM on stacked scores (Simonyan and Zisserman, "Two-stream
    convolutional networks", 2014, section 5.3), its penalty chosen on the held-out clips.

    Raises DataError where there are not two classes to tell apart.
    """
    if len(set(truth.tolist())) < 2:
        raise DataError("an SVM needs training clips of two classes or more")

    def fitted(penalty: float) -> LinearSVC:
        machine = LinearSVC(
            C=penalty, multi_class="crammer_singer", random_state=seed, max_iter=10_000
        )
        return machine.fit(inputs, truth)

    machines = [fitted(penalty) for penalty in PENALTIES]
    if not len(held_truth):
        return machines[1]
    return max(machines, key=lambda machine: float(machine.score(held, held_truth)))


def svm_scores(machine: LinearSVC, inputs: NDArray[np.float32], classes: int) -> Scores:
    """Decision values (N, C); a class that was not trained on comes last."""
    values = machine.decision_function(inputs)
    if values.ndim == 1:  # of two classes one value tells
        values = np.stack([-values, values], axis=1)
    scores = np.full((len(inputs), classes), -np.inf, np.float32)
    scores[:, machine.classes_] = values
    return scores
