"""Fitting the decision to the scores of one, two or three streams."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.bundle.manifest import DecisionSpec, Rate, Reached
from edge.decision.fusion import KINDS, softmax
from export.decision import (
    FitData,
    add_fused,
    confidence_report,
    fit_decision,
    shortfalls,
    with_test,
)
from export.gate import missed_rates, too_much_lost
from export.measure import PRECISIONS, SAMPLES, SnippetScores, accuracy_report
from tests.support.cached import cached_clip, moments_of
from train.streams import FUSED

CLASSES = ("a", "b", "c")
NAMES = ("spatial", "temporal", "third")


def random_scores(
    streams: tuple[str, ...], clips: int, signal: float, names: tuple[str, ...] = CLASSES
) -> SnippetScores:
    """Scores of clips. Each stream is more accurate than the one before it, unless signal is 0."""
    rng = np.random.default_rng(len(streams))
    truth = rng.integers(0, 3, clips)
    cached = [cached_clip(names[t], 40, str(n)) for n, t in enumerate(truth)]
    scores = {}
    by_logits = {}
    for rank, stream in enumerate(streams, 1):
        logits = rng.normal(0, 1, (clips, SAMPLES, 3))
        logits[np.arange(clips), :, truth] += signal * rank
        for precision in PRECISIONS:
            by_logits[stream, precision] = logits.astype(np.float32)
            scores[stream, precision] = softmax(logits, 1.0)
    return SnippetScores(cached, CLASSES, 10, by_logits, scores)


def fit_data(streams: tuple[str, ...], clips: int) -> FitData:
    own = random_scores(streams, clips, 3.0)
    others = moments_of(random_scores(streams, 40, 0.0, ("other",) * 3))
    nothing = replace(others, clips=[], logits={stream: [] for stream in streams})
    return FitData(own, moments_of(own), others, nothing)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_decision_is_fitted_for_any_number_of_streams(count: int) -> None:
    streams = NAMES[:count]
    data = fit_data(streams, 40)
    decision = fit_decision(data, 0.05)
    assert list(decision.weights) == list(streams)
    assert sum(decision.weights.values()) == pytest.approx(1)
    assert min(decision.weights.values()) >= 0.6 / count - 1e-9
    positives = add_fused(data.snippets, decision)
    assert positives.streams == streams
    report = accuracy_report(positives)
    assert set(report) == {"clips", "samples_per_clip", *streams, FUSED}
    assert too_much_lost(report, streams) is None
    assert set(confidence_report(positives, decision)) == {*streams, FUSED}
    found = decision.spec.validation
    assert found is not None
    assert found.other.share <= 0.05
    assert (found.other.clips, found.other.moments) == (40, 40 * 30)
    assert found.right.share > 0.9
    if count == 1:
        assert report[FUSED]["top1_int8"] == report[streams[0]]["top1_int8"]


def test_without_unknown_no_other_actions_are_needed_and_nothing_falls_short() -> None:
    data = fit_data(NAMES[:2], 40)
    nothing = replace(data.others, clips=[], logits={name: [] for name in NAMES[:2]})
    decision = fit_decision(replace(data, others=nothing), None)
    spec = decision.spec
    assert (spec.kind, spec.threshold, spec.false_alarm_rate) == ("best", None, None)
    decision = with_test(decision, data.own, data.others)
    for found in (spec.validation, decision.spec.test):
        assert found is not None
        assert found.right.share > 0.9
        assert found.right.share + found.wrong.share == pytest.approx(1, abs=1e-4)
    assert (spec.validation.other.clips, decision.spec.test.other.share) == (0, 1)
    assert shortfalls(decision.spec) == []
    assert missed_rates(decision.spec) is None
    DecisionSpec.model_validate(decision.spec.model_dump())


def test_a_decision_gets_what_it_reaches_on_test_clips() -> None:
    data = fit_data(NAMES[:2], 40)
    decision = fit_decision(data, 0.05)
    assert decision.spec.test is None
    assert with_test(decision, data.own, data.others).spec.test == decision.spec.validation


def test_with_many_clips_a_kind_is_chosen_and_reported() -> None:
    positives = random_scores(("spatial", "temporal"), 150, 1.0)
    data = replace(fit_data(("spatial", "temporal"), 10), snippets=positives)
    decision = fit_decision(data, 0.05)
    assert list(decision.kinds["held_out"]) == list(KINDS)
    # independent normal logits: the mean of logits is the best that there is
    assert decision.fusion.kind == "geometric"
    assert decision.weights["temporal"] >= 0.3
    assert (decision.spec.window_s, decision.spec.false_alarm_rate) == (1.0, 0.05)
    assert type(decision.fusion).model_validate(decision.fusion.model_dump()) == decision.fusion
    report = confidence_report(positives, decision)[FUSED]
    assert report["temperature"] == decision.fusion.temperature
    assert report["error_after"] < 0.05


def rate(share: float, high: float) -> Rate:
    return Rate(share=share, low=0.0, high=high, moments=900, clips=9)


def test_what_was_asked_and_not_reached_is_said() -> None:
    spec = fit_decision(fit_data(NAMES[:2], 40), 0.01).spec
    sure = Reached(right=rate(0.8, 1.0), wrong=rate(0.0, 0.1), other=rate(0.0, 0.009))
    assert shortfalls(spec.model_copy(update={"validation": sure, "test": sure})) == []
    missed = Reached(right=rate(0.0, 0.3), wrong=rate(0.0, 0.3), other=rate(0.034, 0.2))
    few = Reached(right=rate(0.8, 1.0), wrong=rate(0.0, 0.3), other=rate(0.0, 0.336))
    assert shortfalls(spec.model_copy(update={"validation": few, "test": missed})) == [
        "9 validation clips of other actions are too few to be sure of 1.0%: up to 33.6% is "
        "possible",
        "1.0% of the moments of other actions were to show a label, 3.4% do on 9 test clips",
        "no moment of the bundle's own actions shows its label on test clips",
    ]


def test_a_rate_is_missed_when_its_whole_interval_is_above_what_was_asked() -> None:
    spec = fit_decision(fit_data(NAMES[:2], 40), 0.01).spec
    often = Rate(share=0.447, low=0.31, high=0.6, moments=900, clips=40)
    right = rate(0.8, 1.0)
    perhaps = Reached(right=right, wrong=rate(0.0, 0.1), other=rate(0.034, 0.2))
    surely = Reached(right=right, wrong=rate(0.0, 0.1), other=often)
    assert missed_rates(spec.model_copy(update={"validation": perhaps, "test": perhaps})) is None
    assert missed_rates(spec.model_copy(update={"validation": perhaps, "test": surely})) == (
        "more than 1.0% of the moments of other actions show a label: "
        "44.7% (31.0% to 60.0%) on 40 test clips"
    )
