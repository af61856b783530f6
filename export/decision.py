"""Fits fusion and decision on validation clips, and reports on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge.bundle.manifest import DecisionSpec, FusionSpec, RecurrentLogits
from edge.decision.fusion import Logits, Scores, fuse, softmax
from edge.devices.fusion_network import run_sequence, side_by_side
from edge.devices.inference import StatefulNetwork
from export.confidence import Bin, calibration_error, reliability
from export.measure import PRECISIONS, Moments, SnippetScores
from export.recurrent import RecurrentCandidate
from export.threshold import (
    choose_threshold,
    count_events,
    raise_threshold,
    reached,
    replays,
    silence,
    with_threshold,
)
from train.evaluation.fusion_fit import Clips, choose_among
from train.evaluation.metrics import Truth
from train.streams import FUSED

WINDOW_S = 1.0
LEAST_MARGIN = 1e-6  # the lowest threshold that a manifest may have
HOLD = 0.5  # of the threshold; see docs/figures.md for other shares


@dataclass(frozen=True, slots=True)
class Decision:
    """From logits to a label and its confidence. temperatures, weights: by stream. fusion: of the
    confidence. kinds: how each kind did on held-out groups, for the report. network: of a recurrent
    fusion, else None. spec: what decides.
    """

    temperatures: Mapping[str, float]
    weights: Mapping[str, float]
    fusion: FusionSpec
    kinds: dict[str, Any]
    network: StatefulNetwork | None
    spec: DecisionSpec

    def temperature(self, stream: str) -> float:
        """The temperature of a stream, or of "fused"."""
        return self.fusion.temperature if stream == FUSED else self.temperatures[stream]


@dataclass(frozen=True, slots=True)
class FitData:
    """What a decision is fitted on. snippets: of validation clips of the bundle's classes; own:
    every frame of them; others: of validation clips of other actions; footage: of video that shows
    none of the classes, perhaps of no clip."""

    snippets: SnippetScores
    own: Moments
    others: Moments
    footage: Moments


def fit_decision(
    data: FitData, false_alarms: float | None, recurrent: RecurrentCandidate | None = None
) -> Decision:
    """The kind of fusion, temperatures and weights (see train/evaluation/fusion_fit.py), and the
    threshold (see export/threshold.py).

    false_alarms: the accepted share of moments of other actions that show a label, 0 to 1; None
    fits no threshold, so that the best class is always shown. recurrent: a fusion to take if it is
    better than every mean.
    """
    snippets = data.snippets
    logits = {stream: snippets.logits[stream, "int8"] for stream in snippets.streams}
    groups = np.array([f"{each.clip.label}/{each.clip.group}" for each in snippets.clips])
    candidate = None
    if recurrent is not None:
        candidate = recurrent_logits(recurrent.network, recurrent.spec, logits)
    fitted, temperature, kinds = choose_among(Clips(logits, snippets.truth, groups), candidate)
    fusion: FusionSpec = fitted.spec
    network = None
    if recurrent is not None and temperature is not None:
        fusion = recurrent.spec.model_copy(update={"temperature": temperature})
        network = recurrent.network
    spec = _decide_best(data) if false_alarms is None else _fit_threshold(data, false_alarms)
    return Decision(fitted.temperatures, fitted.weights, fusion, kinds, network, spec)


def _decide_best(data: FitData) -> DecisionSpec:
    """The decision for the best class, without threshold, with what it reaches on these clips."""
    own, others = replays(data.own, WINDOW_S), replays(data.others, WINDOW_S)
    spec = DecisionSpec(
        kind="best",
        window_s=WINDOW_S,
        threshold=None,
        hold=1.0,
        false_alarm_rate=None,
        validation=None,
        test=None,
        footage=None,
    )
    return spec.model_copy(update={"validation": reached(own, others, spec)})


def _fit_threshold(data: FitData, false_alarms: float) -> DecisionSpec:
    """The decision by the margin, with what it reaches on these clips."""
    own, others = replays(data.own, WINDOW_S), replays(data.others, WINDOW_S)
    footage = replays(data.footage, WINDOW_S)
    classes = data.own.classes
    spec = DecisionSpec(
        kind="margin",
        window_s=WINDOW_S,
        threshold=LEAST_MARGIN,
        hold=HOLD,
        false_alarm_rate=false_alarms,
        validation=None,
        test=None,
        footage=None,
    )
    spec = with_threshold(spec, choose_threshold(spec, others))
    if footage:
        spec = silence(spec, footage, classes)
    spec = with_threshold(spec, raise_threshold(spec, own))
    measured = {
        "validation": reached(own, others, spec),
        "footage": count_events(footage, spec, classes) if footage else None,
    }
    return spec.model_copy(update=measured)


def with_test(decision: Decision, own: Moments, others: Moments) -> Decision:
    """The decision, with what it reaches on test clips."""
    spec = decision.spec
    test = reached(replays(own, spec.window_s), replays(others, spec.window_s), spec)
    return replace(decision, spec=spec.model_copy(update={"test": test}))


def shortfalls(spec: DecisionSpec) -> list[str]:
    """What was asked for and not reached, or cannot be known, in one line each."""
    lines, asked = [], spec.false_alarm_rate
    for part, found in (("validation", spec.validation), ("test", spec.test)):
        if found is None:
            continue
        other = found.other
        if asked is None:
            pass  # every moment shows a label, as was asked
        elif other.share > asked:
            lines.append(
                f"{asked:.1%} of the moments of other actions were to show a label, "
                f"{other.share:.1%} do on {other.clips} {part} clips"
            )
        elif other.high > asked:
            lines.append(
                f"{other.clips} {part} clips of other actions are too few to be sure of "
                f"{asked:.1%}: up to {other.high:.1%} is possible"
            )
        if found.right.share == 0:
            lines.append(f"no moment of the bundle's own actions shows its label on {part} clips")
    return lines


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
