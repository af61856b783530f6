"""Fits a fusion of each kind, and chooses the kind, on validation clips.

A mean of logits is a logistic regression, so its weights, temperature and offsets are fitted
together, by likelihood, with a normal prior of the offsets. A mean of scores gets the weights with
the best top-1, then a temperature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from sklearn.model_selection import GroupKFold

from edge.bundle.manifest import FusionKind, MeanKind, MeanLogits, MeanScores, MeanSpec
from edge.decision.fusion import (
    KINDS,
    Logits,
    Scores,
    Terms,
    apply_temperature,
    fuse,
    softmax,
    stream_terms,
    weighted_mean,
)
from train.evaluation.fusion import search_weights
from train.evaluation.metrics import Truth, log_likelihood

MIN_SHARE = 0.6  # smallest weight, as a share of an equal weight: 0.3 for two streams
OFFSET_DEVIATION = 0.4  # of the prior of the offsets, in logits at temperature 1
MIN_CLIPS = 100  # with fewer the kind is arithmetic, for chance would choose it
# with fewer the weights of a mean of scores are equal: one clip is five points of top-1 and more
MIN_WEIGHTED_CLIPS = 20
FOLDS = 5
TEMPERATURES = (0.02, 10.0)  # searched from, to
_VARIANCE = OFFSET_DEVIATION**2


Kind = TypeVar("Kind", bound=str)


@dataclass(frozen=True, slots=True)
class Clips:
    """Clips to fit on. logits: (clips, snippets, C) by stream; truth: index of each clip's class,
    (clips,); groups: of each clip, (clips,), since clips of one recording are alike."""

    logits: Mapping[str, Logits]
    truth: Truth
    groups: NDArray[Any]

    def __getitem__(self, rows: NDArray[Any]) -> Clips:
        logits = {name: values[rows] for name, values in self.logits.items()}
        return Clips(logits, self.truth[rows], self.groups[rows])


@dataclass(frozen=True, slots=True)
class FittedFusion:
    """temperatures, weights: by stream."""

    temperatures: dict[str, float]
    weights: dict[str, float]
    spec: MeanSpec

    def scores(self, logits: Mapping[str, Logits]) -> Scores:
        """The fused scores (..., C) of logits (..., C) by stream."""
        return fuse(logits, self.temperatures, self.weights, self.spec)


@dataclass(frozen=True, slots=True)
class KindResult:
    """How a kind did on clips whose groups were held out. log_likelihood: of each clip, (clips,);
    top1: 0 to 1."""

    log_likelihood: NDArray[np.float64]
    top1: float


def fit_temperature(scores: Scores, truth: Truth) -> float:
    """The temperature within TEMPERATURES at which scores (N, C) have the best log-likelihood of
    the true classes (N,).
    """

    def loss(exponent: float) -> float:
        return -log_likelihood(apply_temperature(scores, float(np.exp(exponent))), truth)

    bounds = np.log(TEMPERATURES)
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-3})
    return round(float(np.exp(found.x)), 3)


def fit_fusion(kind: MeanKind, clips: Clips) -> FittedFusion:
    """The fusion of one kind: a temperature for each stream, then the weights (each at least
    MIN_SHARE of an equal one; of the scores of fewer than MIN_WEIGHTED_CLIPS clips equal ones), the
    offsets if the kind has them, and the temperature."""
    truth = np.repeat(clips.truth, next(iter(clips.logits.values())).shape[1])
    temperatures = {
        name: fit_temperature(softmax(_flat(values), 1.0), truth)
        for name, values in clips.logits.items()
    }
    terms = stream_terms(kind, clips.logits, temperatures)
    if kind in get_args(MeanLogits.model_fields["kind"].annotation):
        return _fit_logits(kind, temperatures, terms, clips.truth)
    means = {name: values.mean(axis=1) for name, values in terms.items()}
    weights = dict.fromkeys(means, 1 / len(means))
    if len(clips.truth) >= MIN_WEIGHTED_CLIPS:
        weights = search_weights(means, clips.truth, minimum=MIN_SHARE / len(means))
    temperature = fit_temperature(_flat(weighted_mean(terms, weights)), truth)
    spec = MeanScores.model_validate({"kind": kind, "temperature": temperature})
    return FittedFusion(temperatures, weights, spec)


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    return values.reshape(-1, values.shape[-1])


def _fit_logits(
    kind: MeanKind, temperatures: dict[str, float], terms: dict[str, Terms], truth: Truth
) -> FittedFusion:
    """The most likely weights, temperature and offsets. Where a weight would be too small, weights
    are mixed with equal ones, and the temperature and offsets are fitted again."""
    names, stacked = list(terms), np.stack(list(terms.values()))
    factors, _ = _regress(stacked, truth)
    shares = factors / factors.sum()
    if (least := MIN_SHARE / len(names)) > shares.min():
        equal = 1 / len(names)
        shares += (least - shares.min()) / (equal - shares.min()) * (equal - shares)
    shares = np.round(shares, 3)
    weights = {name: float(share) for name, share in zip(names, shares, strict=True)}
    (factor,), offsets = _regress(weighted_mean(terms, weights)[None], truth)
    content = {
        "kind": kind,
        "temperature": round(1 / factor, 4),
        "offsets": [round(value / factor, 4) for value in offsets],
    }
    return FittedFusion(temperatures, weights, MeanLogits.model_validate(content))


def _regress(terms: Terms, truth: Truth) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The factors (K,) of terms (K, clips, snippets, C) and the offsets (C,) whose sum, as logits,
    makes the true classes (clips,) and the offsets most likely. Each clip counts once."""
    count, clips, snippets, classes = terms.shape
    rows = terms.reshape(count, -1, classes)
    target = np.zeros(rows.shape[1:])
    target[np.arange(clips * snippets), np.repeat(truth, snippets)] = 1

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        factors, offsets = values[:count], values[count:]
        logits = np.tensordot(factors, rows, 1) + offsets
        logits -= logits.max(axis=1, keepdims=True)
        exponentials = np.exp(logits)
        total = exponentials.sum(axis=1, keepdims=True)
        error = (exponentials / total - target) / snippets
        likelihood = (logits * target - np.log(total) * target).sum() / snippets
        gradient = np.concatenate(
            [[(error * row).sum() for row in rows], error.sum(axis=0) + offsets / _VARIANCE]
        )
        return -likelihood + (offsets**2).sum() / (2 * _VARIANCE), gradient

    start = np.concatenate([np.full(count, 1 / count), np.zeros(classes)])
    low, high = TEMPERATURES
    bounds = [(1 / high / count, 1 / low)] * count + [(None, None)] * classes
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return found.x[:count], found.x[count:]


def hold_out(clips: Clips) -> dict[MeanKind, KindResult]:
    """Of each kind: how it does on each of FOLDS parts of the groups, fitted on the others."""

    def judge(kind: MeanKind) -> KindResult:
        return _hold_out(clips, lambda rest, part: fit_fusion(kind, rest).scores(part.logits))

    return {kind: judge(kind) for kind in KINDS}


def hold_out_recurrent(clips: Clips, logits: Logits) -> KindResult:
    """The same of a recurrent fusion that was fitted on none of these clips, so that only its
    temperature is. logits: what it gives, (clips, snippets, C)."""
    fused = Clips({"fused": logits}, clips.truth, clips.groups)

    def scores(rest: Clips, part: Clips) -> Scores:
        temperature = recurrent_temperature(rest.logits["fused"], rest.truth)
        return softmax(part.logits["fused"], temperature)

    return _hold_out(fused, scores)


def recurrent_temperature(logits: Logits, truth: Truth) -> float:
    """The most likely temperature of a recurrent fusion's logits (clips, snippets, C)."""
    return fit_temperature(softmax(_flat(logits), 1.0), np.repeat(truth, logits.shape[1]))


def _hold_out(clips: Clips, scores_of: Callable[[Clips, Clips], Scores]) -> KindResult:
    """scores_of: fits on the first clips, gives the scores (clips, snippets, C) of the second."""
    folds = GroupKFold(min(FOLDS, len(set(clips.groups.tolist()))))
    likelihood, right = np.zeros(len(clips.truth)), np.zeros(len(clips.truth))
    for fitted, judged in folds.split(clips.truth, groups=clips.groups):
        scores, truth = scores_of(clips[fitted], clips[judged]), clips.truth[judged]
        of_truth = scores[np.arange(len(judged)), :, truth]  # (clips, snippets)
        likelihood[judged] = np.log(np.maximum(of_truth, 1e-9)).mean(axis=1)
        right[judged] = scores.mean(axis=1).argmax(axis=1) == truth
    return KindResult(likelihood, float(right.mean()))


def choose_kind(results: Mapping[Kind, KindResult]) -> Kind:
    """The simplest kind whose mean log-likelihood is within a standard error of the best one's."""
    best = max(results.values(), key=lambda result: float(result.log_likelihood.mean()))
    for kind, result in results.items():
        short = best.log_likelihood - result.log_likelihood
        if short.mean() <= short.std() / np.sqrt(len(short)):
            return kind
    raise AssertionError("the best kind is within its own standard error")


def choose_fusion(clips: Clips) -> tuple[FittedFusion, dict[str, Any]]:
    """The fusion of the kind that `choose_kind` takes, fitted on all clips, and how the kinds did.
    With fewer than MIN_CLIPS clips, or one group, it is arithmetic and no kind is judged."""
    fitted, _, table = choose_among(clips, None)
    return fitted, table


def choose_among(
    clips: Clips, recurrent: Logits | None
) -> tuple[FittedFusion, float | None, dict[str, Any]]:
    """As `choose_fusion`, with a recurrent fusion as the least simple kind (see
    `hold_out_recurrent`): the
    mean of choice; the temperature of the recurrent fusion, if that is taken instead, else None;
    and how the kinds did."""
    count, groups = len(clips.truth), len(set(clips.groups.tolist()))
    if count < MIN_CLIPS or groups < 2:
        what = "arithmetic" if count >= MIN_WEIGHTED_CLIPS else "arithmetic, equal weights"
        rule = f"{what}: {count} clips of {groups} groups are too few to choose by"
        return fit_fusion("arithmetic", clips), None, {"rule": rule}
    results = hold_out(clips)
    everything: dict[FusionKind, KindResult] = {kind: results[kind] for kind in KINDS}
    if recurrent is not None:
        everything["recurrent"] = hold_out_recurrent(clips, recurrent)
    table: dict[str, Any] = {
        kind: {
            "top1": round(result.top1, 4),
            "cross_entropy": round(-float(result.log_likelihood.mean()), 4),
        }
        for kind, result in everything.items()
    }
    rule = "the simplest within a standard error of the smallest cross-entropy, groups held out"
    fitted = fit_fusion(choose_kind(results), clips)
    temperature = None
    if recurrent is not None and choose_kind(everything) == "recurrent":
        temperature = recurrent_temperature(recurrent, clips.truth)
    return fitted, temperature, {"rule": rule, "held_out": table}
