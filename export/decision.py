"""From both networks' scores to a decision: temperatures, weights, threshold, and their worth."""

from __future__ import annotations

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
from train.data.cache import STACK
from train.data.snippets import evenly_spaced
from train.evaluation.fusion import search_weight
from train.evaluation.metrics import Truth

WINDOW_S = 1.0


@dataclass(frozen=True, slots=True)
class Confidence:
    """Temperatures of the streams, and the fusion with its own."""

    spatial: float
    temporal: float
    fusion: FusionSpec

    def of(self, stream: str) -> float:
        """The temperature of a stream, or of "fused"."""
        known = {"spatial": self.spatial, "temporal": self.temporal}
        return known.get(stream, self.fusion.temperature)


def fit_fusion(known: ClipScores, others: ClipScores, false_alarms: float) -> Confidence:
    """Temperatures, weights and threshold from validation clips, in the order in which they work.

    known: clips of the bundle's classes; others: of other actions.
    """
    spatial, temporal = (
        fit_temperature(*_rows(known, stream, "int8")) for stream in ("spatial", "temporal")
    )
    plain = FusionSpec(
        spatial_weight=1.0,
        temporal_weight=1.0,
        temperature=1.0,
        window_s=WINDOW_S,
        threshold=0.0,
        false_alarm_rate=false_alarms,
    )
    found = Confidence(spatial, temporal, plain)
    weight = _spatial_weight(known, found)
    weights = {"spatial_weight": weight, "temporal_weight": round(1 - weight, 2)}
    found = replace(found, fusion=plain.model_copy(update=weights))
    fused = fit_temperature(*_rows(fuse_moments(known, found), "fused", "int8"))
    found = replace(found, fusion=found.fusion.model_copy(update={"temperature": fused}))
    negatives = windowed(fuse_moments(others, found), WINDOW_S).max(axis=-1).ravel()
    threshold = choose_threshold(negatives, false_alarms)
    return replace(found, fusion=found.fusion.model_copy(update={"threshold": threshold}))


def _spatial_weight(scores: ClipScores, confidence: Confidence) -> float:
    """In twentieths, the one with the best INT8 top-1 of these clips; among equals that with the
    best log-likelihood. Neither stream gets less than 0.3: with few clips one could be shut out.
    """
    spatial, temporal = (
        apply_temperature(scores.moments[stream, "int8"], confidence.of(stream)).mean(axis=1)
        for stream in ("spatial", "temporal")
    )
    return search_weight(spatial, temporal, scores.truth, least=0.3)


def fuse_moments(scores: ClipScores, confidence: Confidence) -> ClipScores:
    """The same with the stream "fused", as it is live."""
    fusion = confidence.fusion

    def fused(precision: str) -> Scores:
        spatial, temporal = (
            apply_temperature(scores.moments[stream, precision], confidence.of(stream))
            for stream in ("spatial", "temporal")
        )
        return apply_temperature(fuse(spatial, temporal, fusion), fusion.temperature)

    made = {("fused", precision): fused(precision) for precision in PRECISIONS}
    return replace(scores, moments=scores.moments | made)


def confidence_report(scores: ClipScores, confidence: Confidence) -> dict[str, Any]:
    """Expected calibration error of each stream's INT8 scores at temperature 1 and at its own, and
    of the fusion without any temperature and with all three.
    """
    plain = Confidence(1.0, 1.0, confidence.fusion.model_copy(update={"temperature": 1.0}))
    report: dict[str, Any] = {}
    for stream in ("spatial", "temporal", "fused"):
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
    if confidence is not None and stream != "fused":  # which has its temperature already
        moments = apply_temperature(moments, confidence.of(stream))
    return moments.reshape(-1, moments.shape[-1]), np.repeat(scores.truth, moments.shape[1])


def windowed(scores: ClipScores, window_s: float) -> Scores:
    """The INT8 scores that the runtime's window would hold at each moment, (clips, SAMPLES, C)."""
    rows = []
    for clip, fused in zip(scores.clips, scores.moments["fused", "int8"], strict=True):
        window = ScoreWindow(window_s)
        moments = evenly_spaced(len(clip), STACK, SAMPLES)
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
