"""Late fusion of the streams' scores: weights, and a linear SVM."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from sklearn.svm import LinearSVC

from edge.decision.fusion import Scores, fuse
from edge.errors import DataError
from train.evaluation.metrics import Truth, log_likelihood, top_k

STEPS = 20  # weights are searched in twentieths
PENALTIES = (0.1, 1.0, 10.0, 100.0)  # of the SVM


Streams = Mapping[str, Scores]  # (N, C) each, by name


def search_weights(scores: Streams, truth: Truth, least: float = 0.0) -> dict[str, float]:
    """The weights, which add up to 1, with the best top-1 of these clips; among equals those with
    the best log-likelihood. No stream gets less than `least`.

    From equal weights on, two streams at a time share what both have in the best way, until no
    pair has a better one: of two streams that is every way there is.
    """
    names, fewest = list(scores), math.ceil(least * STEPS - 1e-9)
    each, more = divmod(STEPS, len(names))
    steps = {name: each + (index < more) for index, name in enumerate(names)}

    def worth(steps: dict[str, int]) -> tuple[float, float]:
        fused = fuse(scores, steps)
        return top_k(fused, truth, 1), log_likelihood(fused, truth)

    best, improving = worth(steps), True
    while improving:
        improving = False
        for one, other in combinations(names, 2):
            both = steps[one] + steps[other]
            ways = [
                steps | {one: share, other: both - share}
                for share in range(fewest, both - fewest + 1)
            ]
            way = max(ways, key=worth)
            if worth(way) > best:
                steps, best, improving = way, worth(way), True
    return {name: count / STEPS for name, count in steps.items()}


def stacked(scores: Streams) -> NDArray[np.float32]:
    """The scores of all streams, normalised to length 1, side by side: (N, streams C)."""
    parts = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in scores.values()]
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

    Raises DataError if there are not two classes to tell apart.
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
