"""Fits the decision (temperatures, weights, threshold) on validation clips, and reports on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge.bundle.manifest import FusionSpec
from edge.decision.fusion import Scores, ScoreWindow, apply_temperature, fuse
from export.confidence import (
    Bin,
    calibration_error,
    choose_threshold,
    fit_temperature,
    reliability,
)
from export.measure import PRECISIONS, SAMPLES, SnippetScores
from train.data.snippets import evenly_spaced
from train.evaluation.fusion import search_weights
from train.evaluation.metrics import Truth
from train.streams import FUSED

WINDOW_S = 1.0
MIN_SHARE = 0.6  # smallest weight, as a share of an equal weight: 0.3 for two streams


@dataclass(frozen=True, slots=True)
class Decision:
    """From logits to a label. temperatures, weights: by stream. fusion: the temperature of the
    fused scores, the window and the threshold.
    """

    temperatures: Mapping[str, float]
    weights: Mapping[str, float]
    fusion: FusionSpec

    def temperature(self, stream: str) -> float:
        """The temperature of a stream, or of "fused"."""
        return self.fusion.temperature if stream == FUSED else self.temperatures[stream]


def fit_decision(
    positives: SnippetScores, negatives: SnippetScores, false_alarms: float
) -> Decision:
    """Temperatures, then weights, then the temperature of the fusion, then the threshold.

    positives: validation clips of the bundle's classes; negatives: of other actions. false_alarms:
    the accepted share of snippets of other actions that show a label, 0 to 1.
    """
    temperatures = {
        stream: fit_temperature(*_rows(positives, stream, "int8")) for stream in positives.streams
    }
    initial = FusionSpec(
        kind="arithmetic",
        temperature=1.0,
        window_s=WINDOW_S,
        threshold=0.0,
        false_alarm_rate=false_alarms,
    )
    decision = Decision(temperatures, {}, initial)
    decision = replace(decision, weights=_weights(positives, decision))
    fused = fit_temperature(*_rows(add_fused(positives, decision), FUSED, "int8"))
    decision = replace(decision, fusion=decision.fusion.model_copy(update={"temperature": fused}))
    best_scores = windowed(add_fused(negatives, decision), WINDOW_S).max(axis=-1).ravel()
    threshold = choose_threshold(best_scores, false_alarms)
    return replace(decision, fusion=decision.fusion.model_copy(update={"threshold": threshold}))


def _weights(scores: SnippetScores, decision: Decision) -> dict[str, float]:
    """The weights with the best INT8 accuracy on these clips, see `search_weights`. Each is at
    least MIN_SHARE of an equal weight, since with few clips a stream could get none.
    """
    means = {
        stream: _calibrated(scores, stream, "int8", decision).mean(axis=1)
        for stream in scores.streams
    }
    return search_weights(means, scores.truth, minimum=MIN_SHARE / len(means))


def _calibrated(scores: SnippetScores, stream: str, precision: str, decision: Decision) -> Scores:
    """The scores of a stream at its temperature, (clips, SAMPLES, C)."""
    return apply_temperature(scores.by_network[stream, precision], decision.temperature(stream))


def add_fused(scores: SnippetScores, decision: Decision) -> SnippetScores:
    """The scores, and the fused scores of each snippet, as a live run computes them."""

    def fused(precision: str) -> Scores:
        rows = {
            stream: _calibrated(scores, stream, precision, decision) for stream in scores.streams
        }
        return apply_temperature(fuse(rows, decision.weights), decision.fusion.temperature)

    fused_scores = {(FUSED, precision): fused(precision) for precision in PRECISIONS}
    return replace(scores, by_network=scores.by_network | fused_scores)


def confidence_report(scores: SnippetScores, decision: Decision) -> dict[str, Any]:
    """The expected calibration error of the INT8 scores, by stream and for "fused", before (all
    temperatures 1) and after calibration.
    """
    uncalibrated = replace(
        decision,
        temperatures=dict.fromkeys(scores.streams, 1.0),
        fusion=decision.fusion.model_copy(update={"temperature": 1.0}),
    )
    report: dict[str, Any] = {}
    for stream in (*scores.streams, FUSED):
        before, after = (
            calibration_error(reliability_of(scores, each, stream))
            for each in (uncalibrated, decision)
        )
        report[stream] = {
            "temperature": decision.temperature(stream),
            "error_before": round(before, 4),
            "error_after": round(after, 4),
        }
    return report


def reliability_of(scores: SnippetScores, decision: Decision, stream: str) -> list[Bin]:
    """The reliability diagram of the INT8 scores of a stream, or of "fused", as in a live run."""
    return reliability(*_rows(add_fused(scores, decision), stream, "int8", decision))


def _rows(
    scores: SnippetScores, stream: str, precision: str, decision: Decision | None = None
) -> tuple[Scores, Truth]:
    """The scores of all snippets (N, C), at the stream's temperature if there is a decision, and
    their true classes (N,).
    """
    if decision is None or stream == FUSED:  # fused scores have their temperature already
        values = scores.by_network[stream, precision]
    else:
        values = _calibrated(scores, stream, precision, decision)
    return values.reshape(-1, values.shape[-1]), np.repeat(scores.truth, values.shape[1])


def windowed(scores: SnippetScores, window_s: float) -> Scores:
    """The fused INT8 scores after the runtime's window, at each snippet: (clips, SAMPLES, C)."""
    rows = []
    for clip, fused in zip(scores.clips, scores.by_network[FUSED, "int8"], strict=True):
        window = ScoreWindow(window_s)
        indices = evenly_spaced(clip, scores.history, SAMPLES)
        rows.append([window.push(clip.times_s[i], s) for i, s in zip(indices, fused, strict=True)])
    return np.array(rows, np.float32)


def threshold_report(
    positives: SnippetScores, negatives: SnippetScores, fusion: FusionSpec
) -> dict[str, float]:
    """The shares of snippets, 0 to 1, at which a live run shows the right class or a wrong one (of
    clips of the classes), or any class (of clips of other actions).
    """
    scores, other_scores = (windowed(each, fusion.window_s) for each in (positives, negatives))
    right = scores.argmax(axis=-1) == positives.truth[:, None]
    shown, other_shown = (each.max(axis=-1) >= fusion.threshold for each in (scores, other_scores))
    return {
        "shown_and_right": round(float((right & shown).mean()), 4),
        "shown_and_wrong": round(float((~right & shown).mean()), 4),
        "other_actions_shown": round(float(other_shown.mean()), 4),
    }
