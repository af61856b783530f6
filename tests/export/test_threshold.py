"""The threshold of `unknown`, and the rates that it reaches, on clips as a run sees them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle.manifest import DecisionSpec
from edge.decision.decide import UNKNOWN, DecisionWindow
from export.measure import Moments
from export.threshold import (
    Replay,
    choose_threshold,
    count_events,
    events,
    raise_threshold,
    rate,
    reached,
    replays,
    shown,
    silence,
    with_threshold,
)
from tests.support.cached import cached_clip

CLASSES = ("Diving", "Drumming", "Surfing")
SPEC = DecisionSpec(
    kind="margin",
    window_s=1.0,
    threshold=3.0,
    hold=0.6,
    false_alarm_rate=0.1,
    validation=None,
    test=None,
    footage=None,
)


def clip(*margins: float, truth: int | None = None, gaps: frozenset[int] = frozenset()) -> Replay:
    """A clip of ten frames a second, with these margins of Diving."""
    means = np.array([[margin, 0, 0] for margin in margins], np.float32)
    return Replay(np.arange(len(margins)) / 10, means, gaps, truth)


def test_a_replay_decides_as_a_run_does() -> None:
    rng = np.random.default_rng(3)
    cached = cached_clip(label="Drumming", frames=70, gaps=(40,))
    count = len(cached.usable(10))
    logits = {name: [rng.normal(0, 3, (count, 3)).astype(np.float32)] for name in ("a", "b")}
    (found,) = replays(Moments([cached], CLASSES, 10, logits), SPEC.window_s)
    assert (found.truth, found.gaps) == (1, {30})
    window, labels, before = DecisionWindow(SPEC, CLASSES), [], None
    for place, frame in enumerate(cached.usable(10)):
        if before is not None and frame != before + 1:
            window.clear()
        of_frame = {name: rows[0][place] for name, rows in logits.items()}
        fused = np.full(3, 1 / 3, np.float32)
        labels.append(window.push(cached.times_s[frame], of_frame, fused).label)
        before = frame
    expected = [UNKNOWN if index < 0 else CLASSES[index] for index in shown(found, SPEC)]
    assert labels == expected
    assert len(set(labels)) > 1


def test_a_label_is_held_and_a_gap_ends_it() -> None:
    margins = (2.9, 3.1, 1.9, 1.7, 1.9, 3.1, 1.9)
    assert shown(clip(*margins), SPEC).tolist() == [-1, 0, 0, -1, -1, 0, 0]
    cut = clip(*margins, gaps=frozenset({2}))
    assert shown(cut, SPEC).tolist() == [-1, 0, -1, -1, -1, 0, 0]


@given(st.lists(st.lists(st.floats(0, 1e4), min_size=1, max_size=20), min_size=1, max_size=6))
def test_the_threshold_keeps_the_rate_that_was_asked_for(clips: list[list[float]]) -> None:
    """However high the scores are: the threshold has no bound."""
    others = [clip(*margins) for margins in clips]
    threshold = choose_threshold(SPEC, others)
    fitted = SPEC.model_copy(update={"threshold": threshold})
    labelled = np.concatenate([shown(each, fitted) >= 0 for each in others])
    assert labelled.mean() <= SPEC.false_alarm_rate


def test_the_threshold_is_the_lowest_that_does() -> None:
    others = [clip(*([0.0] * 9), 7.0), clip(*([0.0] * 9), 5.0)]
    assert choose_threshold(SPEC, others) == pytest.approx(1e-6)
    strict = SPEC.model_copy(update={"false_alarm_rate": 0.05})
    assert choose_threshold(strict, others) == pytest.approx(5.001)
    none = SPEC.model_copy(update={"false_alarm_rate": 0.0})
    assert choose_threshold(none, others) == pytest.approx(7.001)


def test_it_is_raised_to_the_middle_where_that_costs_no_right_label() -> None:
    low = SPEC.model_copy(update={"threshold": 2.0})
    own = [clip(8, 9, 9, truth=0), clip(1, 12, 7, truth=0), clip(30, truth=2)]
    # 7 is held from 12 on while that is at least 0.6 of the threshold: 8 is what bounds it
    assert raise_threshold(low, own) == pytest.approx(5.0)
    assert raise_threshold(low, [*own, clip(2, 2, truth=0)]) == pytest.approx(2.0)
    assert raise_threshold(low, [clip(9, 9, truth=1)]) == 2.0  # no label is right
    assert raise_threshold(low, [clip(1, 1, truth=0)]) == 2.0


@given(st.lists(st.lists(st.floats(0, 50), min_size=1, max_size=12), min_size=1, max_size=5))
def test_raising_it_changes_no_right_label(clips: list[list[float]]) -> None:
    own = [clip(*margins, truth=0) for margins in clips]
    raised = SPEC.model_copy(update={"threshold": raise_threshold(SPEC, own)})
    assert raised.threshold is not None
    assert raised.threshold >= 3.0
    assert all((shown(each, raised) == shown(each, SPEC)).all() for each in own)


def test_nothing_is_reported_in_footage_and_each_class_pays_for_its_own() -> None:
    """An action has to hold for 0.3 s: a shorter peak does not count."""
    footage = [clip(1, 1, 6, 6, 1, 1, 1), clip(1, 4, 4, 4, 4, 4, 1)]
    fitted = silence(SPEC, footage, CLASSES)
    assert fitted.threshold == pytest.approx(3.201)  # 0.8 of the highest
    assert fitted.class_thresholds == pytest.approx((4.001, 3.201, 3.201))
    quiet = silence(SPEC, [clip(1, 1, 1, 1)], CLASSES)
    assert quiet.class_thresholds == pytest.approx((3.0, 3.0, 3.0), abs=0.001)
    raised = with_threshold(fitted, 3.5)
    assert raised.class_thresholds == pytest.approx((4.001, 3.5, 3.5))
    assert count_events(footage, fitted, CLASSES).model_dump() == {
        "videos": 2,
        "seconds": 1.2,
        "events": 0,
    }
    lower = SPEC.model_copy(update={"threshold": 3.9})
    assert [events(each, lower, CLASSES) for each in footage] == [0, 1]


def test_rates_are_of_moments_and_their_interval_is_of_clips() -> None:
    found = rate([np.array([True] * 3 + [False] * 7), np.array([False] * 30)])
    assert (found.share, found.moments, found.clips) == (0.075, 40, 2)
    none = rate([np.zeros(100, bool)] * 8)
    assert (none.share, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 8), abs=1e-4)  # 8 of 8 without a label
    assert rate([np.ones(5, bool)] * 3).high == 1.0
    assert rate([]).model_dump() == {"share": 0, "low": 0, "high": 1, "moments": 0, "clips": 0}


def test_what_is_reached_tells_right_from_wrong() -> None:
    own = [clip(4, 4, 1, 1, truth=0), clip(4, 1, 1, 1, truth=2)]
    found = reached(own, [clip(1, 1, 1, 4)], SPEC)
    assert (found.right.share, found.wrong.share, found.other.share) == (0.25, 0.125, 0.25)


def test_a_class_with_a_higher_threshold_needs_more() -> None:
    dear = SPEC.model_copy(update={"class_thresholds": (4.0, 3.0, 3.0)})
    assert shown(clip(3.5, 4.1, 2.5, 2.3), dear).tolist() == [-1, 0, 0, -1]  # held above 0.6 * 4
    other = Replay(
        np.arange(2) / 10, np.array([[0, 3.5, 0], [0, 2.9, 0]], np.float32), frozenset(), 1
    )
    assert shown(other, dear).tolist() == [1, 1]
