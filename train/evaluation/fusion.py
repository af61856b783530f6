"""Late fusion of the streams' mean scores: searched weights, and a linear SVM."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from edge.decision.fusion import Scores, weighted_mean
from edge.errors import DataError
from train.evaluation.metrics import Truth, log_likelihood, top_k

logger = logging.getLogger(__name__)

STEPS = 20  # weights are searched in twentieths
PENALTIES = (0.1, 1.0, 10.0, 100.0)  # values of the SVM's C

_ITERATIONS = 10_000  # of the SVM's solver

StreamScores = Mapping[str, NDArray[Any]]  # (clips, C) each, by stream


def search_weights(scores: StreamScores, truth: Truth, minimum: float = 0.0) -> dict[str, float]:
    """The weights of the streams, with a sum of 1, that give the best top-1 on these clips, and
    among those the best log-likelihood. minimum: of each weight.

    Coordinate search: starting from equal weights, the sum of two weights is divided anew in the
    best way, for each pair of streams, until no pair improves. For two streams this tries all
    weights.
    """
    names, fewest = list(scores), math.ceil(minimum * STEPS - 1e-9)
    quotient, remainder = divmod(STEPS, len(names))
    steps = {name: quotient + (index < remainder) for index, name in enumerate(names)}

    def quality(steps: dict[str, int]) -> tuple[float, float]:
        fused = weighted_mean(scores, steps)
        return top_k(fused, truth, 1), log_likelihood(fused, truth)

    best, improving = quality(steps), True
    while improving:
        improving = False
        for first, second in combinations(names, 2):
            total = steps[first] + steps[second]
            candidates = [
                steps | {first: share, second: total - share}
                for share in range(fewest, total - fewest + 1)
            ]
            candidate = max(candidates, key=quality)
            if quality(candidate) > best:
                steps, best, improving = candidate, quality(candidate), True
    return {name: count / STEPS for name, count in steps.items()}


def stacked(scores: StreamScores) -> NDArray[np.float32]:
    """The scores of all streams side by side, each normalised to length 1: (clips, streams C)."""
    rows = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in scores.values()]
    return np.concatenate(rows, axis=1)


def fit_svm(
    inputs: NDArray[np.float32],
    truth: Truth,
    validation: NDArray[np.float32],
    validation_truth: Truth,
    seed: int = 1,
) -> LinearSVC:
    """A multi-class linear SVM on stacked scores (clips, streams C) (Simonyan and Zisserman,
    "Two-stream convolutional networks", 2014, section 5.3).

    Its penalty is the one of PENALTIES that is best on the validation clips; 1 if there are none.
    One that has not converged is told. Raises DataError if the training clips have fewer than two
    classes.
    """
    if len(set(truth.tolist())) < 2:
        raise DataError("an SVM needs training clips of two classes or more")

    def fitted(penalty: float) -> LinearSVC:
        machine = LinearSVC(
            C=penalty, multi_class="crammer_singer", random_state=seed, max_iter=_ITERATIONS
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # told of the one that is chosen
            return machine.fit(inputs, truth)

    machines = [fitted(penalty) for penalty in PENALTIES]
    chosen = machines[PENALTIES.index(1.0)]
    if len(validation_truth):
        chosen = max(machines, key=lambda each: float(each.score(validation, validation_truth)))
    if chosen.n_iter_ >= _ITERATIONS:
        logger.warning(
            "the SVM of penalty %g has not converged after %d steps", chosen.C, _ITERATIONS
        )
    return chosen


def svm_scores(machine: LinearSVC, inputs: NDArray[np.float32], classes: int) -> Scores:
    """The SVM's decision values as scores (clips, C); -inf for classes it was not trained on.

    inputs: (clips, streams C). classes: C.
    """
    values = machine.decision_function(inputs)
    if values.ndim == 1:  # for two classes it is the value of the second one
        values = np.stack([-values, values], axis=1)
    scores = np.full((len(inputs), classes), -np.inf, np.float32)
    scores[:, machine.classes_] = values
    return scores
