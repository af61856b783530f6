"""Late fusion, the window over time and the decision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.bundle.manifest import FusionSpec, Manifest, load_bundle
from edge.decision.fuser import open_fuser
from edge.decision.fusion import (
    KINDS,
    ScoreWindow,
    apply_temperature,
    fuse,
    softmax,
    top_scores,
    weighted_mean,
)
from tests.support.manifests import manifest, set_key

CLASSES = ("Diving", "Drumming", "Surfing")


@pytest.mark.slow
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


def test_the_mean_of_terms_is_weighted() -> None:
    one_hot = np.eye(3)
    two = {"spatial": one_hot[0], "temporal": one_hot[1]}
    np.testing.assert_allclose(weighted_mean(two, {"spatial": 1, "temporal": 3}), [0.25, 0.75, 0])
    three = two | {"slow": one_hot[2]}
    weights = {"spatial": 1, "temporal": 2, "slow": 1}
    np.testing.assert_allclose(weighted_mean(three, weights), [0.25, 0.5, 0.25])
    np.testing.assert_allclose(weighted_mean({"slow": one_hot[2]}, weights), [0, 0, 1])


def spec(kind: str, offsets: tuple[float, ...] = (0.0, 0.0, 0.0)) -> FusionSpec:
    content = set_key(manifest(), "fusion.kind", kind)
    content = set_key(content, "fusion.temperature", 1.0) | {"classes": list(CLASSES)}
    if kind in ("geometric", "standardised"):
        content = set_key(content, "fusion.offsets", list(offsets))
    return Manifest.model_validate(content).fusion


TWO = {"a": np.array([3.0, 1.0, -1.0]), "b": np.array([-2.0, 2.0, 0.0])}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # softmax at temperatures 2 and 1: (0.665, 0.245, 0.090) and (0.016, 0.867, 0.117)
        ("arithmetic", [0.1781, 0.7114, 0.1106]),
        # logits / temperature: (1.5, 0.5, -0.5) and (-2, 2, 0), mean (-1.125, 1.625, -0.125)
        ("geometric", [0.0517, 0.8079, 0.1404]),
        # (3/4, 1/4, 0) and (0, 1, 0)
        ("rectified", [0.1875, 0.8125, 0.0]),
        # (1.2247, 0, -1.2247) and (-1.2247, 1.2247, 0), mean (-0.6124, 0.9186, -0.3062)
        ("standardised", [0.1433, 0.6622, 0.1946]),
    ],
)
def test_each_kind_has_values_computed_by_hand(kind: str, expected: list[float]) -> None:
    fused = fuse(TWO, {"a": 2.0, "b": 1.0}, {"a": 1.0, "b": 3.0}, spec(kind))
    np.testing.assert_allclose(fused, expected, atol=2e-4)


THREE = {name: arrays(np.float32, (2, 3), elements=st.floats(-20, 20, width=32)) for name in "abc"}
WEIGHTS = {name: st.floats(0.05, 10) for name in "abc"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@given(st.fixed_dictionaries(THREE), st.fixed_dictionaries(WEIGHTS), st.permutations(range(3)))
def test_every_kind_of_fusion_is_one(
    kind: str, logits: dict[str, np.ndarray], weights: dict[str, float], order: list[int]
) -> None:
    temperatures = {"a": 0.5, "b": 1.0, "c": 2.0}
    fusion = spec(kind)
    fused = fuse(logits, temperatures, weights, fusion)
    np.testing.assert_allclose(fused.sum(axis=-1), 1, atol=1e-5)
    # classes in another order
    permuted = {name: values[:, order] for name, values in logits.items()}
    moved = fuse(permuted, temperatures, weights, fusion)
    np.testing.assert_allclose(moved, fused[:, order], atol=1e-5)
    # streams in another order, weights of another scale
    turned = dict(reversed(logits.items()))
    scaled = {name: 7 * weight for name, weight in weights.items()}
    np.testing.assert_allclose(fuse(turned, temperatures, scaled, fusion), fused, atol=1e-5)
    # a weight of 0 is as if the stream were not there
    without = {name: logits[name] for name in "ab"}
    zero = fuse(logits, temperatures, weights | {"c": 0.0}, fusion)
    np.testing.assert_allclose(zero, fuse(without, temperatures, weights, fusion), atol=1e-5)
    # a stream beside itself, and alone, has one result
    alone = fuse({"a": logits["a"]}, temperatures, weights, fusion)
    twice = fuse({"a": logits["a"], "b": logits["a"] * 2}, temperatures, weights, fusion)
    np.testing.assert_allclose(twice, alone, atol=1e-5)
    if kind in ("arithmetic", "geometric"):
        np.testing.assert_allclose(alone, softmax(logits["a"], 0.5), atol=1e-5)
    best = logits["a"].argmax(axis=1)
    if kind != "rectified" or (logits["a"].max(axis=1) > 1e-3).all():
        rows = np.arange(2)
        np.testing.assert_allclose(alone[rows, best], alone.max(axis=1), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_fails_on_equal_or_negative_logits(kind: str) -> None:
    for logits in (np.zeros(3), np.full(3, -4.0)):
        fused = fuse({"a": logits}, {"a": 1.0}, {"a": 1.0}, spec(kind))
        np.testing.assert_allclose(fused, 1 / 3, atol=1e-6)
    for value in (np.nan, np.inf):
        broken = np.array([value, 1.0, 0.0], np.float32)
        fused = fuse({"a": broken, "b": np.ones(3)}, {"a": 1, "b": 1}, {"a": 1, "b": 1}, spec(kind))
        assert not np.isfinite(fused).all()  # the run stops, and says what to check


@pytest.mark.parametrize("kind", ["geometric", "standardised"])
def test_offsets_are_added_before_the_temperature(kind: str) -> None:
    fusion = spec(kind, (0.0, 2.0, 0.0)).model_copy(update={"temperature": 0.5})
    fused = fuse({"a": np.zeros(3)}, {"a": 1.0}, {"a": 1.0}, fusion)
    np.testing.assert_allclose(fused, softmax(np.array([0.0, 4.0, 0.0]), 1.0), rtol=1e-5)


def test_logits_become_scores_by_the_manifest(demo_bundle: Path) -> None:
    manifest = load_bundle(demo_bundle).manifest
    logits = {name: np.arange(8, dtype=np.float32) for name in manifest.streams}
    scores = open_fuser(manifest, None).push(0.0, logits)
    assert list(scores.streams) == ["spatial", "temporal"]
    for name, stream in manifest.streams.items():
        np.testing.assert_array_equal(
            scores.streams[name], softmax(logits[name], stream.temperature)
        )
    mean = sum(stream.weight * scores.streams[n] for n, stream in manifest.streams.items())
    expected = apply_temperature(mean, manifest.fusion.temperature)
    np.testing.assert_allclose(scores.fused, expected, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_uses_the_kind_of_the_manifest(kind: str) -> None:
    content = set_key(manifest(), "fusion.kind", kind) | {"classes": list(CLASSES)}
    content = set_key(content, "streams.temporal.weight", 3.0)
    content = set_key(content, "streams.spatial.temperature", 2.0)
    if kind in ("geometric", "standardised"):
        content = set_key(content, "fusion.offsets", [0.1, 0.2, 0.3])
    checked = Manifest.model_validate(content)
    logits = {"spatial": TWO["a"].astype(np.float32), "temporal": TWO["b"].astype(np.float32)}
    expected = fuse(
        logits,
        {"spatial": 2.0, "temporal": 1.0},
        {"spatial": 1.0, "temporal": 3.0},
        checked.fusion,
    )
    scores = open_fuser(checked, None).push(0.0, logits)
    np.testing.assert_array_equal(scores.fused, expected)


def test_the_best_classes_are_named_with_their_scores() -> None:
    scores = np.array([0.2, 0.5, 0.3], np.float32)
    assert [name for name, _ in top_scores(scores, CLASSES, 2)] == ["Drumming", "Surfing"]


def test_the_window_is_the_mean_of_the_last_second_and_no_more() -> None:
    window = ScoreWindow(1.0)
    one_hot = np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(window.push(0.0, one_hot[0]), [1, 0, 0])
    np.testing.assert_allclose(window.push(0.5, one_hot[1]), [0.5, 0.5, 0])
    np.testing.assert_allclose(window.push(1.25, one_hot[1]), [0, 1, 0])
    window.clear()
    np.testing.assert_allclose(window.push(1.3, one_hot[2]), [0, 0, 1])
