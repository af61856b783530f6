"""Fitting the decision to the scores of one, two or three streams."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.decision.fusion import KINDS, softmax
from export.decision import add_fused, confidence_report, fit_decision, threshold_report
from export.gate import too_much_lost
from export.measure import PRECISIONS, SAMPLES, SnippetScores, accuracy_report
from train.data.cache import CachedClip
from train.data.clips import Clip
from train.data.timeline import Timeline
from train.streams import FUSED

CLASSES = ("a", "b", "c")
NAMES = ("spatial", "temporal", "third")


def random_scores(streams: tuple[str, ...], clips: int, signal: float) -> SnippetScores:
    """Scores of clips. Each stream is more accurate than the one before it, unless signal is 0."""
    rng = np.random.default_rng(len(streams))
    truth = rng.integers(0, 3, clips)
    times = tuple(index / 25 for index in range(40))
    cached = [
        CachedClip(
            Clip(str(n), Path(), CLASSES[t], str(n)),
            (32, 32),
            Timeline(times),
            "bt601",
            Path(),
            "",
            (),
        )
        for n, t in enumerate(truth)
    ]
    scores = {}
    by_logits = {}
    for rank, stream in enumerate(streams, 1):
        logits = rng.normal(0, 1, (clips, SAMPLES, 3))
        logits[np.arange(clips), :, truth] += signal * rank
        for precision in PRECISIONS:
            by_logits[stream, precision] = logits.astype(np.float32)
            scores[stream, precision] = softmax(logits, 1.0)
    return SnippetScores(cached, CLASSES, 10, by_logits, scores)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_decision_is_fitted_for_any_number_of_streams(count: int) -> None:
    streams = NAMES[:count]
    positives, negatives = random_scores(streams, 40, 1.0), random_scores(streams, 40, 0.0)
    assert positives.streams == streams
    decision = fit_decision(positives, negatives, 0.05)
    assert list(decision.weights) == list(streams)
    assert sum(decision.weights.values()) == pytest.approx(1)
    assert min(decision.weights.values()) >= 0.6 / count - 1e-9
    assert max(decision.weights, key=lambda name: decision.weights[name]) == streams[-1]
    positives, negatives = add_fused(positives, decision), add_fused(negatives, decision)
    assert positives.streams == streams
    report = accuracy_report(positives)
    assert set(report) == {"clips", "samples_per_clip", *streams, FUSED}
    assert too_much_lost(report, streams) is None
    assert set(confidence_report(positives, decision)) == {*streams, FUSED}
    shown = threshold_report(positives, negatives, decision.fusion)
    assert shown["other_actions_shown"] <= 0.05
    if count == 1:
        assert report[FUSED]["top1_int8"] == report[streams[0]]["top1_int8"]


def test_with_many_clips_a_kind_is_chosen_and_reported() -> None:
    positives = random_scores(("spatial", "temporal"), 150, 1.0)
    decision = fit_decision(positives, random_scores(("spatial", "temporal"), 40, 0.0), 0.05)
    assert list(decision.kinds["held_out"]) == list(KINDS)
    # independent normal logits: the mean of logits is the best that there is
    assert decision.fusion.kind == "geometric"
    assert decision.weights["temporal"] >= 0.3
    assert (decision.fusion.window_s, decision.fusion.false_alarm_rate) == (1.0, 0.05)
    assert type(decision.fusion).model_validate(decision.fusion.model_dump()) == decision.fusion
    report = confidence_report(positives, decision)[FUSED]
    assert report["temperature"] == decision.fusion.temperature
    assert report["error_after"] < 0.05
