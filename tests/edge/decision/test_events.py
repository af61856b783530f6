"""Actions that start and end: hysteresis, duration, cool-down, thresholds of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle.manifest import DecisionSpec
from edge.decision.events import EventRules, EventTracker
from edge.errors import SourceError

CLASSES = ("Diving", "Swing", "Surfing")
SPEC = DecisionSpec(
    kind="confidence",
    window_s=1.0,
    threshold=0.6,
    hold=1.0,
    false_alarm_rate=0.0,
    validation=None,
    test=None,
    footage=None,
)
MARGIN = SPEC.model_copy(update={"kind": "margin", "threshold": 4.0, "hold": 0.6})
BEST = SPEC.model_copy(update={"kind": "best", "threshold": None, "false_alarm_rate": None})
PLAIN = EventRules(release=0.1, min_s=0.2, cooldown_s=1.0)


def told(tracker: EventTracker, rows: Sequence[tuple[float, ...]]) -> list[str]:
    """Kind, label and when it was known, as "start Diving 0.2", of ten rows a second."""
    events = []
    for index, row in enumerate(rows):
        scores = np.array(row, np.float32)
        for event in tracker.push(index * 0.1, scores, scores / 2):
            events.append(f"{event.kind} {event.label} {event.time_s:.1f}")
    return events


def diving(*scores: float) -> list[tuple[float, ...]]:
    return [(score, 1 - score, 0.0) for score in scores]


def test_an_action_is_told_once_it_has_held() -> None:
    assert told(EventTracker("cam", CLASSES, SPEC, PLAIN), diving(0.5, 0.7, 0.7, 0.7, 0.7)) == [
        "start Diving 0.3"
    ]
    assert told(EventTracker("cam", CLASSES, SPEC, PLAIN), diving(0.5, 0.7, 0.45, 0.7, 0.45)) == []


def test_a_score_at_the_edge_does_not_flicker() -> None:
    rows = diving(0.7, 0.7, 0.7, 0.55, 0.62, 0.52, 0.7, 0.49, 0.55)
    assert told(EventTracker("cam", CLASSES, SPEC, PLAIN), rows) == [
        "start Diving 0.2",
        "end Diving 0.7",
    ]


def test_an_action_lasts_as_long_as_its_label_is_held() -> None:
    rows = diving(0.9, 1.1, 1.0, 1.2, 0.7, 0.62, 0.59)
    assert told(EventTracker("cam", CLASSES, MARGIN, PLAIN), rows) == [
        "start Diving 0.3",
        "end Diving 0.6",
    ]


def test_an_event_tells_the_confidence_and_not_the_score_that_decided() -> None:
    tracker = EventTracker("cam", CLASSES, MARGIN, EventRules(min_s=0.0))
    scores, confidences = np.array([1.3, 0, -1], np.float32), np.array([0.9, 0.1, 0], np.float32)
    (event,) = tracker.push(0.0, scores, confidences)
    assert (event.label, event.score) == ("Diving", 0.9)


def test_a_threshold_beyond_the_scores_of_a_bundle_is_refused() -> None:
    rules = EventRules({"Diving": 1.2})
    EventTracker("cam", CLASSES, MARGIN, rules)
    with pytest.raises(SourceError, match=r"--threshold Diving=1.2: the scores of this bundle end"):
        EventTracker("cam", CLASSES, SPEC, rules)


def test_another_action_ends_the_first() -> None:
    rows = [(0.7, 0.3, 0)] * 4 + [(0.2, 0.8, 0)] * 4
    events = told(EventTracker("cam", CLASSES, SPEC, PLAIN), rows)
    assert events == ["start Diving 0.2", "end Diving 0.4", "start Swing 0.6"]


def test_the_same_action_is_not_told_again_at_once() -> None:
    rows = diving(*[0.7] * 4, 0.3, *[0.7] * 14)
    events = told(EventTracker("cam", CLASSES, SPEC, PLAIN), rows)
    assert events == ["start Diving 0.2", "end Diving 0.4", "start Diving 1.4"]


def test_thresholds_and_mutes_are_a_class_s_own() -> None:
    rules = EventRules({"Diving": 0.9}, min_s=0.0, ignored=frozenset({"Swing"}))
    assert told(EventTracker("cam", CLASSES, SPEC, rules), diving(0.8, 0.8, 0.95, 0.1)) == [
        "start Diving 0.2",
        "end Diving 0.3",
    ]
    with pytest.raises(
        SourceError, match="'Golf' is not an action of this bundle; its actions: Diving"
    ):
        EventTracker("cam", CLASSES, SPEC, EventRules({"Golf": 0.5}))


def test_a_gap_ends_what_is_under_way_at_its_last_frame() -> None:
    tracker = EventTracker("cam", CLASSES, SPEC, PLAIN)
    assert told(tracker, diving(*[0.7] * 5)) == ["start Diving 0.2"]
    (event,) = tracker.clear()
    assert (event.kind, event.time_s, event.started_s) == ("end", 0.4, 0.0)
    assert tracker.clear() == []


@given(st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 3), max_size=80))
def test_starts_and_ends_take_turns(rows: list[tuple[float, ...]]) -> None:
    tracker = EventTracker("cam", CLASSES, SPEC, PLAIN)
    events = told(tracker, rows) + [f"{e.kind} {e.label} 0" for e in tracker.clear()]
    kinds = [event.split()[0] for event in events]
    assert kinds == ["start", "end"] * (len(kinds) // 2)
    assert all(a.split()[1] == b.split()[1] for a, b in zip(events[::2], events[1::2], strict=True))


def test_without_a_threshold_an_action_lasts_for_as_long_as_it_is_the_best() -> None:
    rows = [(0.0, 3.0, 0.1)] * 4 + [(0.2, 0.1, 0.0)] * 4
    tracker = EventTracker("cam", CLASSES, BEST, PLAIN)
    assert told(tracker, rows) == ["start Swing 0.2", "end Swing 0.4", "start Diving 0.6"]


def test_without_a_threshold_an_ignored_best_class_lets_no_other_in() -> None:
    rows = [(3.0, 1.0, 0.0)] * 4 + [(0.5, 1.0, 2.0)] * 4 + [(0.5, 1.0, 0.2)] * 4
    rules = EventRules(min_s=0.2, ignored=frozenset({"Surfing"}))
    tracker = EventTracker("cam", CLASSES, BEST, rules)
    assert told(tracker, rows) == ["start Diving 0.2", "end Diving 0.4", "start Swing 1.1"]


def test_a_threshold_for_a_bundle_that_has_none_is_refused() -> None:
    with pytest.raises(SourceError, match="always shows its best class; --ignore leaves"):
        EventTracker("cam", CLASSES, BEST, EventRules(thresholds={"Diving": 0.5}))
