"""Cross-validation by group: the accuracy of a recipe on takes it was not trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    measures flow. folds: their number, 2 or more. seeds: how many, of which the first is the
    recipe's and the others follow it; each trains on all folds, which don't depend on it.
    """

    classes: tuple[str, ...]
    clips: Sequence[Clip]
    recipes: dict[str, Recipe]
    motion: Spec
    folds: int
    seeds: int


def cross_validate(trial: Trial, options: JobOptions) -> dict[str, Any]:
    """Train all streams on each fold, as `twostream train` does, and test them.

    The runs of a fold are in OUT/fold1, OUT/fold2, ..., those of further seeds in OUT/seed2/fold1,
    ..., and are resumed if they exist. Returns a JSON report: for each stream, and for the mean of
    all streams' scores, the top-1 of each fold, averaged over the seeds, their mean and their
    deviation; likewise of each seed, averaged over the folds. Raises DataError if a class has fewer
    groups than there are folds.
    """
    for label in trial.classes:
        groups = len({clip.group for clip in trial.clips if clip.label == label})
        if groups < trial.folds:
            raise DataError(
                f"{label} has {groups} groups; each class needs {trial.folds}, one for each fold"
            )
    rows = []  # of each seed a list of what each fold gives
    for place in range(trial.seeds):
        seeded = {
            stream: recipe.model_copy(update={"seed": recipe.seed + place})
            for stream, recipe in trial.recipes.items()
        }
        out = options.out / f"seed{place + 1}" if place else options.out
        rows.append(_one_seed(replace(trial, recipes=seeded), replace(options, out=out)))
    names = rows[0][0].keys()
    top1 = {name: np.array([[row[name] for row in by_fold] for by_fold in rows]) for name in names}
    partitions = folds(trial.clips, trial.classes, trial.folds)
    return {
        "classes": list(trial.classes),
        "test_clips": [len(test) for _, test in partitions],
        "samples_per_clip": SAMPLES,
        "seeds": trial.seeds,
        "recipes": {stream: recipe.model_dump() for stream, recipe in trial.recipes.items()},
        "top1": {name: _summary(values) for name, values in top1.items()},
    }


def _one_seed(trial: Trial, options: JobOptions) -> list[dict[str, float]]:
    """The top-1 of each stream, and of their mean scores, by fold."""
    rows: list[dict[str, float]] = []
    for number, (train, test) in enumerate(folds(trial.clips, trial.classes, trial.folds), 1):
        fold_options = replace(options, out=options.out / f"fold{number}", resume="auto")
        runs = {stream: _train(stream, train, trial, fold_options) for stream in trial.recipes}
        scores, truth = _test(runs, test, trial.classes, options)
        scores[FUSED] = np.mean(list(scores.values()), axis=0, dtype=np.float32)
        row = {name: top_k(means, truth, 1) for name, means in scores.items()}
        accuracies = ", ".join(f"{name} {top1:.3f}" for name, top1 in row.items())
        seed = next(iter(trial.recipes.values())).seed
        logger.info("seed %d, fold %d: %s", seed, number, accuracies)
        rows.append(row)
    return rows


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


def _summary(top1: NDArray[np.float64]) -> dict[str, Any]:
    """Of accuracies (seeds, folds): their mean; means by fold and by seed, with the sample standard
    deviation of each; that of one seed is unknown."""
    by_fold, by_seed = top1.mean(axis=0), top1.mean(axis=1)
    return {
        "folds": _rounded(by_fold),
        "mean": round(float(top1.mean()), 4),
        "deviation": round(float(by_fold.std(ddof=1)), 4),
        "seeds": _rounded(by_seed),
        "deviation_of_seeds": round(float(by_seed.std(ddof=1)), 4) if len(by_seed) > 1 else None,
    }


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 4) for value in values]
