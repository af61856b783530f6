"""What decides is apart from what is shown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle.manifest import DecisionSpec
from edge.decision.decide import UNKNOWN, DecisionWindow
from edge.decision.open_set import next_shown, raw_scores, summed
from edge.outputs.records import open_set_record

CLASSES = ("Diving", "Drumming", "Surfing")
MARGIN = DecisionSpec(
    kind="margin",
    window_s=1.0,
    threshold=4.0,
    hold=0.5,
    false_alarm_rate=0.01,
    validation=None,
    test=None,
    footage=None,
)
CONFIDENCE = MARGIN.model_copy(update={"kind": "confidence", "threshold": 0.5, "hold": 1.0})
BEST = MARGIN.model_copy(
    update={"kind": "best", "threshold": None, "hold": 1.0, "false_alarm_rate": None}
)
FLAT = np.full(3, 1 / 3, np.float32)


def logits(*values: float) -> dict[str, np.ndarray]:
    """Of two streams, whose sum is `values`."""
    total = np.array(values, np.float32)
    return {"spatial": total / 4, "temporal": total * 3 / 4}


def test_a_margin_is_the_distance_to_the_mean_of_the_others_over_all_streams() -> None:
    total = summed({"a": np.array([1.0, 2.0, -1.0]), "b": np.array([4.0, 0.0, 0.0])})
    np.testing.assert_array_equal(total, [5, 2, -1])
    np.testing.assert_allclose(raw_scores("margin", total), [4.5, 0, -4.5])


@given(st.lists(st.floats(-20, 20), min_size=3, max_size=3), st.floats(-100, 100))
def test_a_margin_does_not_depend_on_the_level_of_the_logits(row: list[float], by: float) -> None:
    values = np.array(row, np.float32)
    np.testing.assert_allclose(
        raw_scores("margin", values + np.float32(by)), raw_scores("margin", values), atol=1e-3
    )


def test_a_confident_frame_is_unknown_without_a_margin_and_a_modest_one_is_not_with_it() -> None:
    sure = np.array([0.98, 0.01, 0.01], np.float32)
    found = DecisionWindow(MARGIN, CLASSES).push(0.0, logits(3.9, 0, 0), sure)
    assert (found.label, found.best) == (UNKNOWN, 0)
    assert found.score == pytest.approx(0.98)
    assert found.open_set[0] == pytest.approx(0.975)
    assert found.threshold == 1.0
    modest = np.array([0.4, 0.3, 0.3], np.float32)
    found = DecisionWindow(MARGIN, CLASSES).push(0.0, logits(4.1, 0, 0), modest)
    assert (found.label, found.score) == ("Diving", pytest.approx(0.4))


def test_logits_are_averaged_over_the_window_before_the_margin() -> None:
    window = DecisionWindow(MARGIN, CLASSES)
    assert window.push(0.0, logits(8, 0, 0), FLAT).label == "Diving"
    found = window.push(0.5, logits(0, 8, 0), FLAT)
    np.testing.assert_allclose(found.open_set, [0.5, 0.5, -1.0])
    assert window.push(1.2, logits(0, 8, 0), FLAT).label == "Drumming"  # the first one has left


def test_a_label_that_is_shown_is_held_and_a_gap_forgets_it() -> None:
    window = DecisionWindow(MARGIN.model_copy(update={"window_s": 0.0}), CLASSES)

    def labels(*margins: float) -> list[str]:
        start = labels.time_s = getattr(labels, "time_s", 0.0) + 1  # type: ignore[attr-defined]
        frames = enumerate(margins)
        return [window.push(start + 0.1 * i, logits(m, 0, 0), FLAT).label for i, m in frames]

    assert labels(3.0, 4.0, 2.1, 1.9, 2.1) == [UNKNOWN, "Diving", "Diving", UNKNOWN, UNKNOWN]
    assert labels(4.5) == ["Diving"]
    window.clear()
    assert labels(3.0) == [UNKNOWN]


def test_another_class_is_not_held_by_the_one_before() -> None:
    assert next_shown(0, np.array([0.7, 0.8]), 1.0, 0.5) is None
    assert next_shown(0, np.array([0.7, 1.0]), 1.0, 0.5) == 1
    assert next_shown(0, np.array([0.7, 0.7]), 1.0, 0.5) == 0


def test_bundles_of_before_decide_by_the_confidence_that_is_shown() -> None:
    window = DecisionWindow(CONFIDENCE, CLASSES)
    scores = np.array([0.2, 0.5, 0.3], np.float32)
    found = window.push(0.0, logits(9, 0, 0), scores)
    assert (found.label, found.score, found.threshold) == ("Drumming", 0.5, 0.5)
    found = window.push(0.1, logits(9, 0, 0), np.array([0.2, 0.4, 0.4], np.float32))
    assert (found.label, found.score) == (UNKNOWN, pytest.approx(0.45))


@given(st.lists(st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3), min_size=1, max_size=5))
def test_without_a_threshold_the_best_class_is_always_shown(rows: list[list[float]]) -> None:
    window = DecisionWindow(BEST.model_copy(update={"window_s": 0.0}), CLASSES)
    for place, row in enumerate(rows):
        values = logits(*row)
        found = window.push(place / 25, values, FLAT)
        total = summed(values)
        assert found.label == CLASSES[found.best] != UNKNOWN
        assert total[found.best] == pytest.approx(total.max(), abs=1e-2)
        assert found.threshold is None
        assert open_set_record(found, CLASSES) is None


def test_the_best_class_is_that_of_the_window() -> None:
    window = DecisionWindow(BEST, CLASSES)
    assert window.push(0.0, logits(8, 0, 0), FLAT).label == "Diving"
    assert window.push(0.5, logits(0, 6, 0), FLAT).label == "Diving"
    assert window.push(1.2, logits(0, 6, 0), FLAT).label == "Drumming"  # the first one has left
