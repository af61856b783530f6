"""Fits the decision (fusion and threshold) on validation clips, and reports on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge.bundle.manifest import FusionSpec, RecurrentLogits
from edge.decision.fusion import Logits, Scores, ScoreWindow, fuse, softmax
from edge.devices.fusion_network import run_sequence, side_by_side
from edge.devices.inference import StatefulNetwork
from export.confidence import (
    Bin,
    calibration_error,
    choose_threshold,
    reliability,
)
from export.measure import PRECISIONS, SAMPLES, SnippetScores
from export.recurrent import RecurrentCandidate
from train.data.snippets import evenly_spaced
from train.evaluation.fusion_fit import Clips, choose_among
from train.evaluation.metrics import Truth
from train.streams import FUSED

WINDOW_S = 1.0


@dataclass(frozen=True, slots=True)
class Decision:
    """From logits to a label. temperatures, weights: by stream. fusion: the kind, its numbers, the
    window and the threshold. kinds: how each kind did on held-out groups, for the report. network:
    of a recurrent fusion, else None.
    """

    temperatures: Mapping[str, float]
    weights: Mapping[str, float]
    fusion: FusionSpec
    kinds: dict[str, Any]
    network: StatefulNetwork | None

    def temperature(self, stream: str) -> float:
        """The temperature of a stream, or of "fused"."""
        return self.fusion.temperature if stream == FUSED else self.temperatures[stream]


def fit_decision(
    positives: SnippetScores,
    negatives: SnippetScores,
    false_alarms: float,
    recurrent: RecurrentCandidate | None = None,
) -> Decision:
    """The kind of fusion, temperatures and weights (see train/evaluation/fusion_fit.py), then the
    threshold.

    positives: validation clips of the bundle's classes; negatives: of other actions. false_alarms:
    the accepted share of snippets of other actions that show a label, 0 to 1. recurrent: a fusion
    to take if it is better than every mean.
    """
    logits = {stream: positives.logits[stream, "int8"] for stream in positives.streams}
    groups = np.array([f"{each.clip.label}/{each.clip.group}" for each in positives.clips])
    clips = Clips(logits, positives.truth, groups)
    candidate = None
    if recurrent is not None:
        candidate = recurrent_logits(recurrent.network, recurrent.spec, logits)
    fitted, temperature, kinds = choose_among(clips, candidate)
    known: dict[str, Any] = {"window_s": WINDOW_S, "false_alarm_rate": false_alarms}
    fusion: FusionSpec = fitted.spec.model_copy(update=known)
    network = None
    if recurrent is not None and temperature is not None:
        known |= {"temperature": temperature}
        fusion, network = recurrent.spec.model_copy(update=known), recurrent.network
    decision = Decision(fitted.temperatures, fitted.weights, fusion, kinds, network)
    best_scores = windowed(add_fused(negatives, decision), WINDOW_S).max(axis=-1).ravel()
    threshold = choose_threshold(best_scores, false_alarms)
    return replace(decision, fusion=fusion.model_copy(update={"threshold": threshold}))


def recurrent_logits(
    network: StatefulNetwork, spec: RecurrentLogits, logits: Mapping[str, Logits]
) -> Logits:
    """The fused logits (clips, SAMPLES, C) of logits (clips, SAMPLES, C) by stream. Each snippet
    moves the state on, as in training."""
    return np.stack([run_sequence(network, rows) for rows in side_by_side(spec, logits)])


def _calibrated(scores: SnippetScores, stream: str, precision: str, decision: Decision) -> Scores:
    """The scores of a stream at its temperature, (clips, SAMPLES, C)."""
    return softmax(scores.logits[stream, precision], decision.temperature(stream))


def add_fused(scores: SnippetScores, decision: Decision) -> SnippetScores:
    """The scores, and the fused scores of each snippet, as a live run computes them."""

    def fused(precision: str) -> Scores:
        logits = {stream: scores.logits[stream, precision] for stream in scores.streams}
        fusion = decision.fusion
        if isinstance(fusion, RecurrentLogits):
            assert decision.network is not None
            fused = recurrent_logits(decision.network, fusion, logits)
            return softmax(fused, fusion.temperature)
        return fuse(logits, decision.temperatures, decision.weights, fusion)

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
    scores: SnippetScores, stream: str, precision: str, decision: Decision
) -> tuple[Scores, Truth]:
    """The scores of all snippets (N, C), at the stream's temperature, and their true classes
    (N,).
    """
    if stream == FUSED:  # fused scores have their temperature already
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
