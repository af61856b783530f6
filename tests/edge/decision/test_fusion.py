"""Late fusion, the window over time and the decision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.bundle.manifest import FusionSpec
from edge.decision.fusion import UNKNOWN, ScoreWindow, apply_temperature, decide, fuse, softmax

CLASSES = ("Diving", "Drumming", "Surfing")
PLAIN = {
    "spatial_weight": 1.0,
    "temporal_weight": 1.0,
    "temperature": 1.0,
    "window_s": 1.0,
    "threshold": 0.5,
    "false_alarm_rate": 0.05,
}


@given(arrays(np.float32, (4, 3), elements=st.floats(-1e4, 1e4, width=32)), st.floats(0.1, 10))
def test_softmax_is_a_distribution_whatever_the_logits(logits: np.ndarray, t: float) -> None:
    scores = softmax(logits, t)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores.sum(axis=-1), 1, atol=1e-5)


def test_a_high_temperature_makes_scores_modest() -> None:
    logits = np.array([2.0, 0.0, 0.0], np.float32)
    np.testing.assert_allclose(softmax(logits, 1.0)[0], np.e**2 / (np.e**2 + 2), rtol=1e-6)
    assert softmax(logits, 4.0)[0] < softmax(logits, 1.0)[0]


@given(arrays(np.float32, (4, 3), elements=st.floats(-8, 8, width=32)), st.floats(0.2, 5))
def test_to_temper_scores_is_to_divide_their_logits(logits: np.ndarray, t: float) -> None:
    scores = softmax(logits, 1.0)
    np.testing.assert_allclose(apply_temperature(scores, t), softmax(logits, t), atol=1e-4)
    np.testing.assert_allclose(apply_temperature(scores, 1.0), scores, atol=1e-6)


def test_fusion_is_the_weighted_mean() -> None:
    spec = FusionSpec(**(PLAIN | {"temporal_weight": 3.0}))
    spatial = np.array([1, 0, 0], np.float32)
    temporal = np.array([0, 1, 0], np.float32)
    np.testing.assert_allclose(fuse(spatial, temporal, spec), [0.25, 0.75, 0])


def test_a_score_below_the_threshold_is_unknown_and_keeps_its_score() -> None:
    scores = np.array([0.2, 0.5, 0.3], np.float32)
    sure, unsure = decide(scores, CLASSES, 0.5), decide(scores, CLASSES, 0.51)
    assert (sure.label, sure.score) == ("Drumming", 0.5)
    assert (unsure.label, unsure.score) == (UNKNOWN, 0.5)
    assert [name for name, _ in unsure.top(CLASSES, 2)] == ["Drumming", "Surfing"]


def test_the_window_is_the_mean_of_the_last_second_and_no_more() -> None:
    window = ScoreWindow(1.0)
    one_hot = np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(window.push(0.0, one_hot[0]), [1, 0, 0])
    np.testing.assert_allclose(window.push(0.5, one_hot[1]), [0.5, 0.5, 0])
    np.testing.assert_allclose(window.push(1.25, one_hot[1]), [0, 1, 0])
    window.clear()
    np.testing.assert_allclose(window.push(1.3, one_hot[2]), [0, 0, 1])


def test_weights_that_are_both_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="both zero"):
        FusionSpec(**(PLAIN | {"spatial_weight": 0.0, "temporal_weight": 0.0}))
