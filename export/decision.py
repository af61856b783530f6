"""Fits the decision: temperatures, weights and threshold, and reports their quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import FusionSpec
from edge.decision.fusion import Scores, ScoreWindow, apply_temperature, fuse
from export.confidence import (
    Bin,
    calibration_error,
    choose_threshold,
    fit_temperature,
    reliability,
)
from export.measure import PRECISIONS, SAMPLES, ClipScores
from train.data.snippets import evenly_spaced
from train.evaluation.fusion import search_weights
from train.evaluation.metrics import Truth
from train.streams import FUSED

WINDOW_S = 1.0
LEAST = 0.6  # of an equal share: of two streams each has 0.3 or more


@dataclass(frozen=True, slots=True)
class Confidence:
    """temperatures, weights: of the streams, by name. fusion: with a temperature of its own."""

    temperatures: Mapping[str, float]
    weights: Mapping[str, float]
    fusion: FusionSpec

    def of(self, stream: str) -> float:
        """The temperature of a stream, or of "fused"."""
        return self.fusion.temperature if stream == FUSED else self.temperatures[stream]


def fit_fusion(known: ClipScores, others: ClipScores, false_alarms: float) -> Confidence:
    """Temperatures, weights and threshold from validation clips, in the order in which they work.

    known: clips of the bundle's classes; others: of other actions.
    """
    temperatures = {name: fit_temperature(*_rows(known, name, "int8")) for name in known.streams}
    plain = FusionSpec(
        kind="arithmetic",
        temperature=1.0,
        window_s=WINDOW_S,
        threshold=0.0,
        false_alarm_rate=false_alarms,
    )
    found = Confidence(temperatures, {}, plain)
    found = replace(found, weights=_weights(known, found))
    fused = fit_temperature(*_rows(fuse_moments(known, found), FUSED, "int8"))
    found = replace(found, fusion=found.fusion.model_copy(update={"temperature": fused}))
    negatives = windowed(fuse_moments(others, found), WINDOW_S).max(axis=-1).ravel()
    threshold = choose_threshold(negatives, false_alarms)
    return replace(found, fusion=found.fusion.model_copy(update={"threshold": threshold}))


def _weights(scores: ClipScores, confidence: Confidence) -> dict[str, float]:
    """In twentieths, those with the best INT8 top-1 of these clips; among equals those with the
    best log-likelihood. No stream gets less than LEAST of an equal share: with few clips one could
    be shut out.
    """
    means = {
        name: apply_temperature(scores.moments[name, "int8"], confidence.of(name)).mean(axis=1)
        for name in scores.streams
    }
    return search_weights(means, scores.truth, least=LEAST / len(means))


def fuse_moments(scores: ClipScores, confidence: Confidence) -> ClipScores:
    """The same with the stream "fused", as it is live."""

    def fused(precision: str) -> Scores:
        rows = {
            stream: apply_temperature(scores.moments[stream, precision], confidence.of(stream))
            for stream in scores.streams
        }
        return apply_temperature(fuse(rows, confidence.weights), confidence.fusion.temperature)

    made = {(FUSED, precision): fused(precision) for precision in PRECISIONS}
    return replace(scores, moments=scores.moments | made)


def confidence_report(scores: ClipScores, confidence: Confidence) -> dict[str, Any]:
    """Expected calibration error of each stream's INT8 scores at temperature 1 and at its own, and
    of the fusion without any temperature and with all of them.
    """
    plain = replace(
        confidence,
        temperatures=dict.fromkeys(scores.streams, 1.0),
        fusion=confidence.fusion.model_copy(update={"temperature": 1.0}),
    )
    report: dict[str, Any] = {}
    for stream in (*scores.streams, FUSED):
        before, after = (
            calibration_error(
                reliability(*_rows(fuse_moments(scores, which), stream, "int8", which))
            )
            for which in (plain, confidence)
        )
        report[stream] = {
            "temperature": confidence.of(stream),
            "error_before": round(before, 4),
            "error_after": round(after, 4),
        }
    return report


def reliability_of(scores: ClipScores, confidence: Confidence, stream: str) -> list[Bin]:
    """Of a stream's INT8 scores as they are live, or of "fused"."""
    return reliability(*_rows(fuse_moments(scores, confidence), stream, "int8", confidence))


def _rows(
    scores: ClipScores, stream: str, precision: str, confidence: Confidence | None = None
) -> tuple[Scores, Truth]:
    """All moments (N, C), at the stream's temperature where it is given; their classes (N,)."""
    moments = scores.moments[stream, precision]
    if confidence is not None and stream != FUSED:  # which has its temperature already
        moments = apply_temperature(moments, confidence.of(stream))
    return moments.reshape(-1, moments.shape[-1]), np.repeat(scores.truth, moments.shape[1])


def windowed(scores: ClipScores, window_s: float) -> Scores:
    """The INT8 scores that the runtime's window would hold at each moment, (clips, SAMPLES, C)."""
    rows = []
    for clip, fused in zip(scores.clips, scores.moments[FUSED, "int8"], strict=True):
        window = ScoreWindow(window_s)
        moments = evenly_spaced(len(clip), scores.history, SAMPLES)
        rows.append([window.push(clip.times_s[i], s) for i, s in zip(moments, fused, strict=True)])
    return np.array(rows, np.float32)


def threshold_report(
    scores: ClipScores, others: ClipScores, fusion: FusionSpec
) -> dict[str, float]:
    """How often the runtime shows the right class, a wrong one, or one where there is none."""
    known, none = windowed(scores, fusion.window_s), windowed(others, fusion.window_s)
    right, shown = _right(scores, known), known.max(axis=-1) >= fusion.threshold
    return {
        "shown_and_right": round(float((right & shown).mean()), 4),
        "shown_and_wrong": round(float((~right & shown).mean()), 4),
        "other_actions_shown": round(float((none.max(axis=-1) >= fusion.threshold).mean()), 4),
    }


def _right(scores: ClipScores, moments: Scores) -> NDArray[np.bool_]:
    return moments.argmax(axis=-1) == scores.truth[:, None]
