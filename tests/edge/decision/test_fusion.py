"""Late fusion, the window over time and the decision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.bundle.manifest import load_bundle
from edge.decision.fusion import (
    UNKNOWN,
    ScoreWindow,
    apply_temperature,
    decide,
    fuse,
    fuse_logits,
    softmax,
    top_scores,
)

CLASSES = ("Diving", "Drumming", "Surfing")


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
    one_hot = np.eye(3, dtype=np.float32)
    two = {"spatial": one_hot[0], "temporal": one_hot[1]}
    np.testing.assert_allclose(fuse(two, {"spatial": 1, "temporal": 3}), [0.25, 0.75, 0])
    three = two | {"slow": one_hot[2]}
    weights = {"spatial": 1, "temporal": 2, "slow": 1}
    np.testing.assert_allclose(fuse(three, weights), [0.25, 0.5, 0.25])
    np.testing.assert_allclose(fuse({"slow": one_hot[2]}, weights), [0, 0, 1])


def test_logits_become_scores_by_the_manifest(demo_bundle: Path) -> None:
    manifest = load_bundle(demo_bundle).manifest
    logits = {name: np.arange(8, dtype=np.float32) for name in manifest.streams}
    scores = fuse_logits(logits, manifest)
    assert list(scores.streams) == ["spatial", "temporal"]
    for name, stream in manifest.streams.items():
        np.testing.assert_array_equal(
            scores.streams[name], softmax(logits[name], stream.temperature)
        )
    mean = sum(stream.weight * scores.streams[n] for n, stream in manifest.streams.items())
    expected = apply_temperature(mean, manifest.fusion.temperature)
    np.testing.assert_allclose(scores.fused, expected, atol=1e-6)


def test_a_score_below_the_threshold_is_unknown_and_keeps_its_score() -> None:
    scores = np.array([0.2, 0.5, 0.3], np.float32)
    sure, unsure = decide(scores, CLASSES, 0.5), decide(scores, CLASSES, 0.51)
    assert (sure.label, sure.score) == ("Drumming", 0.5)
    assert (unsure.label, unsure.score) == (UNKNOWN, 0.5)
    assert [name for name, _ in top_scores(unsure.scores, CLASSES, 2)] == ["Drumming", "Surfing"]


def test_the_window_is_the_mean_of_the_last_second_and_no_more() -> None:
    window = ScoreWindow(1.0)
    one_hot = np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(window.push(0.0, one_hot[0]), [1, 0, 0])
    np.testing.assert_allclose(window.push(0.5, one_hot[1]), [0.5, 0.5, 0])
    np.testing.assert_allclose(window.push(1.25, one_hot[1]), [0, 1, 0])
    window.clear()
    np.testing.assert_allclose(window.push(1.3, one_hot[2]), [0, 0, 1])
