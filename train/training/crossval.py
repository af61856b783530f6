"""Cross-validation by group: the accuracy of a recipe on takes it was not trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.decision.fusion import Scores
from edge.errors import DataError
from edge.spec import Spec
from train.data.cache import fill_cache, open_cache
from train.data.clips import Clip
from train.data.splits import folds, hold_out
from train.evaluation.metrics import Truth, top_k
from train.evaluation.protocol import mean_scores, torch_network, true_classes
from train.models.checkpoint import load_checkpoint
from train.recipe import Recipe
from train.streams import FUSED
from train.training.job import Job, JobOptions, run_job

logger = logging.getLogger(__name__)

SAMPLES = 19  # snippets per test clip, as in the Keras two-stream project


@dataclass(frozen=True, slots=True)
class Trial:
    """A cross-validation.

    recipes: by stream; all streams have the same folds. motion: the spec of the method that
    measures flow. folds: their number, 2 or more.
    """

    classes: tuple[str, ...]
    clips: Sequence[Clip]
    recipes: dict[str, Recipe]
    motion: Spec
    folds: int


def cross_validate(trial: Trial, options: JobOptions) -> dict[str, Any]:
    """Train all streams on each fold, as `twostream train` does, and test them.

    The runs of a fold are in OUT/fold1, OUT/fold2, ..., and are resumed if they exist. Returns a
    JSON report: for each stream, and for the mean of all streams' scores, the top-1 of each fold,
    their mean and their deviation. Raises DataError if a class has fewer groups than there are
    folds.
    """
    for label in trial.classes:
        groups = len({clip.group for clip in trial.clips if clip.label == label})
        if groups < trial.folds:
            raise DataError(
                f"{label} has {groups} groups; each class needs {trial.folds}, one for each fold"
            )
    rows: list[dict[str, float]] = []
    sizes = []
    for number, (train, test) in enumerate(folds(trial.clips, trial.classes, trial.folds), 1):
        fold_options = replace(options, out=options.out / f"fold{number}", resume="auto")
        runs = {stream: _train(stream, train, trial, fold_options) for stream in trial.recipes}
        scores, truth = _test(runs, test, trial.classes, options)
        scores[FUSED] = np.mean(list(scores.values()), axis=0, dtype=np.float32)
        row = {name: top_k(means, truth, 1) for name, means in scores.items()}
        accuracies = ", ".join(f"{name} {top1:.3f}" for name, top1 in row.items())
        logger.info("fold %d: %s", number, accuracies)
        rows.append(row)
        sizes.append(len(test))
    return {
        "classes": list(trial.classes),
        "test_clips": sizes,
        "samples_per_clip": SAMPLES,
        "recipes": {stream: recipe.model_dump() for stream, recipe in trial.recipes.items()},
        "top1": {name: _summary([row[name] for row in rows]) for name in rows[0]},
    }


def _train(stream: str, clips: list[Clip], trial: Trial, options: JobOptions) -> Path:
    recipe = trial.recipes[stream]
    train, validation = hold_out(clips, trial.classes, recipe.validation.fraction)
    job = Job(stream, trial.classes, 1, train, validation, recipe, trial.motion)
    return run_job(job, options)


def _test(
    runs: dict[str, Path], clips: list[Clip], classes: tuple[str, ...], options: JobOptions
) -> tuple[dict[str, Scores], Truth]:
    """The mean scores of the clips (clips, C), by stream and on the same snippets, and their true
    classes (clips,).
    """
    loaded = {stream: load_checkpoint(path)[:2] for stream, path in runs.items()}
    history = max(spec.input.history for _, spec in loaded.values())
    scores: dict[str, Scores] = {}
    for stream, (network, spec) in loaded.items():
        cached = fill_cache(open_cache(options.cache, spec), clips, history)
        scores[stream] = mean_scores(cached, spec, torch_network(network), SAMPLES, history)
    return scores, true_classes(cached, classes)


def _summary(values: list[float]) -> dict[str, Any]:
    """folds, mean, and the sample standard deviation."""
    return {
        "folds": [round(value, 4) for value in values],
        "mean": round(float(np.mean(values)), 4),
        "deviation": round(float(np.std(values, ddof=1)), 4),
    }
