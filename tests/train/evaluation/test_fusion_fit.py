"""Fitting and choosing a kind of fusion, and clip logits of other projects."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.bundle.manifest import MeanLogits
from edge.decision.fusion import KINDS, softmax
from edge.errors import DataError
from tests.support.command import assert_refused, twostream
from tests.support.fusion_scores import CLIP_LOGITS
from train.evaluation.clip_logits import (
    first_half,
    fit_halves,
    is_clip_logits,
    judged_scores,
    load_clip_logits,
)
from train.evaluation.fusion_fit import (
    MIN_CLIPS,
    MIN_WEIGHTED_CLIPS,
    Clips,
    KindResult,
    choose_fusion,
    choose_kind,
    fit_fusion,
    fit_temperature,
)
from train.evaluation.metrics import log_likelihood, top_k


def random_clips(
    count: int, signal: tuple[float, ...], classes: int = 4, snippets: int = 2
) -> Clips:
    """Clips of ten groups. signal: of each stream, 0 for none."""
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 4, count)
    logits = {}
    for number, strength in enumerate(signal):
        values = rng.normal(0, 1, (count, snippets, 4))
        values[np.arange(count), :, truth] += strength
        logits[f"s{number}"] = (values * (1 + number)).astype(np.float32)  # of other scales
    return Clips(logits, truth, np.arange(count) % 10)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_fitted(kind: Any) -> None:
    clips, others = random_clips(300, (2.0, 2.0)), random_clips(400, (2.0, 2.0))
    fitted = fit_fusion(kind, clips)
    assert fitted.weights["s0"] == pytest.approx(0.5, abs=0.13)
    assert sum(fitted.weights.values()) == pytest.approx(1, abs=1e-3)
    truth = np.repeat(others.truth, 2)
    fused = fitted.scores(others.logits).reshape(-1, 4)
    for name, values in others.logits.items():
        alone = softmax(values, fitted.temperatures[name]).reshape(-1, 4)
        assert log_likelihood(fused, truth) > log_likelihood(alone, truth) + 0.05
        assert top_k(fused, truth, 1) > top_k(alone, truth, 1) + 0.03
    assert fit_temperature(fused, truth) == pytest.approx(1, abs=0.2)  # already calibrated


@pytest.mark.parametrize("kind", ["rectified", "standardised"])
def test_the_better_stream_gets_more_weight(kind: Any) -> None:
    for signal, better in (((0.5, 2.5), "s1"), ((2.5, 0.5), "s0")):
        assert fit_fusion(kind, random_clips(300, signal)).weights[better] > 0.6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [2, 20])
def test_a_handful_of_clips_gives_no_stream_all_the_weight(kind: Any, count: int) -> None:
    for signal in ((0.0, 8.0), (8.0, 0.0), (8.0, 8.0), (0.0, 0.0, 8.0)):
        fitted = fit_fusion(kind, random_clips(count, signal))
        assert min(fitted.weights.values()) >= 0.6 / len(signal) - 1e-3
        assert 1e-3 <= fitted.spec.temperature <= 10
        if isinstance(fitted.spec, MeanLogits):
            assert max(map(abs, fitted.spec.offsets)) / fitted.spec.temperature < 1


def test_offsets_restore_a_class_that_both_streams_score_too_low() -> None:
    clips = random_clips(400, (1.5, 1.5))
    for values in clips.logits.values():
        values[..., 3] -= 2
    fitted = fit_fusion("geometric", clips)
    assert isinstance(fitted.spec, MeanLogits)
    assert int(np.argmax(fitted.spec.offsets)) == 3
    level = fitted.spec.model_copy(update={"offsets": (0.0,) * 4})
    truth = np.repeat(clips.truth, 2)
    with_offsets = fitted.scores(clips.logits).reshape(-1, 4)
    without = replace(fitted, spec=level).scores(clips.logits).reshape(-1, 4)
    assert top_k(with_offsets, truth, 1) > top_k(without, truth, 1) + 0.03


def result(*values: float) -> KindResult:
    return KindResult(np.array(values), 0.5)


def test_of_kinds_within_a_standard_error_the_simplest_is_chosen() -> None:
    low, high = result(-1.0, -1.2, -1.0, -1.2), result(-0.5, -0.7, -0.5, -0.7)
    assert choose_kind({"arithmetic": low, "geometric": high, "rectified": low}) == "geometric"
    noisy = result(-0.1, -1.0, -0.1, -1.1)  # 0.025 better than high, standard error 0.2
    assert choose_kind({"arithmetic": low, "geometric": high, "rectified": noisy}) == "geometric"
    assert choose_kind({"arithmetic": high, "geometric": high}) == "arithmetic"


@pytest.mark.slow
def test_with_few_clips_or_one_group_the_kind_is_arithmetic() -> None:
    fitted, table = choose_fusion(random_clips(MIN_CLIPS - 1, (1.0, 2.0)))
    assert fitted.spec.kind == "arithmetic"
    assert table == {"rule": "arithmetic: 99 clips of 10 groups are too few to choose by"}
    fitted, table = choose_fusion(random_clips(MIN_WEIGHTED_CLIPS, (0.0, 2.0)))
    assert fitted.weights == {"s0": 0.3, "s1": 0.7}
    fitted, table = choose_fusion(random_clips(8, (0.0, 2.0)))
    assert fitted.weights == {"s0": 0.5, "s1": 0.5}
    rule = "arithmetic, equal weights: 8 clips of 8 groups are too few to choose by"
    assert table == {"rule": rule}
    clips = random_clips(MIN_CLIPS, (1.0, 2.0))
    one_group = Clips(clips.logits, clips.truth, np.zeros(MIN_CLIPS))
    assert "held_out" not in choose_fusion(one_group)[1]
    fitted, table = choose_fusion(clips)
    assert list(table["held_out"]) == list(KINDS)
    assert all(0.5 < row["top1"] <= 1 for row in table["held_out"].values())


def clip_logits() -> dict[str, Any]:
    clips = random_clips(80, (1.0, 2.0), snippets=1)
    streams = {name: values[:, 0] for name, values in clips.logits.items()}
    about = {"labels": clips.truth.astype(np.int16), "groups": clips.groups}
    return streams | about | {"classes": np.array(list("abcd")), "clips": np.array(["x"] * 80)}


@pytest.mark.slow
def test_clip_logits_are_loaded_and_halved(tmp_path: Path) -> None:
    path = tmp_path / "l.npz"
    np.savez(path, **clip_logits())
    assert is_clip_logits(path)
    clips = load_clip_logits(path)
    assert [(name, values.shape) for name, values in clips.logits.items()] == [
        ("s0", (80, 1, 4)),
        ("s1", (80, 1, 4)),
    ]
    assert list(load_clip_logits(path, ("s1",)).logits) == ["s1"]
    with pytest.raises(DataError, match="has no stream s7; it has s0, s1"):
        load_clip_logits(path, ("s7",))
    first = first_half(clips)
    assert sorted(set(clips.groups[first])) == [0, 1, 2, 3, 4]
    halves = fit_halves(clips, first)
    assert [half.judged.sum() for half in halves] == [40, 40]
    for half in halves:  # no clip is judged by what was fitted on it
        again = fit_fusion("geometric", clips[~half.judged])
        expected = again.scores(clips[half.judged].logits)[:, 0]
        found = judged_scores(clips, halves, "geometric")[half.judged]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("labels", np.zeros(80), "whole numbers from 0 to 3"),
        ("labels", np.full(80, 4), "whole numbers from 0 to 3"),
        ("labels", np.full(80, -1), "whole numbers from 0 to 3"),
        ("labels", np.zeros(79, int), "as long"),
        ("labels", np.zeros(0, int), "as long"),
        ("groups", np.zeros((80, 1)), "as long"),
        ("classes", np.array("abcd"), "one row each"),
        ("s0", np.zeros((80, 3), np.float32), r"s0 has shape \(80, 3\)"),
        ("s0", np.zeros((80, 4), int), "type int64"),
        ("s0", np.full((80, 4), np.nan), "finite"),
        ("s0", np.array([object()] * 80), "not a file of clip logits"),
    ],
)
def test_inconsistent_clip_logits_are_refused(
    key: str, value: np.ndarray, says: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "l.npz", allow_pickle=True, **(clip_logits() | {key: value}))
    with pytest.raises(DataError, match=says) as caught:
        load_clip_logits(tmp_path / "l.npz")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_fuse_reads_clip_logits(tmp_path: Path) -> None:
    path, report = tmp_path / "l.npz", tmp_path / "r.json"
    np.savez(path, **clip_logits())
    done = twostream("fuse", path, "--report", report)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("80 clips, fitted on half of the groups")
    assert [line.split()[0] for line in lines[1:-1]] == ["s0", "s1", *KINDS, "chosen"]
    content = json.loads(report.read_text())
    assert content["geometric"]["top1"] > content["s0"]["top1"]
    assert_refused(twostream("fuse", path, "--stream", "s0"), "one stream")
    assert_refused(twostream("fuse", path, "--out", tmp_path / "o"), "have no features")
    few = clip_logits() | {"groups": np.arange(80) % 3}
    np.savez(path, **few)
    assert_refused(twostream("fuse", path), "clips of 3 groups", "four or more")


@pytest.mark.slow
@pytest.mark.parametrize(("temporal", "top1"), [("motionnet", 0.894), ("tvl1", 0.909)])
def test_the_chosen_kind_on_the_whole_first_test_list(temporal: str, top1: float) -> None:
    if not CLIP_LOGITS.exists():
        pytest.skip(f"no clip logits at {CLIP_LOGITS}; set FUSION_ROOT")
    clips = load_clip_logits(CLIP_LOGITS, ("spatial", temporal))
    halves = fit_halves(clips, first_half(clips))
    assert top_k(judged_scores(clips, halves, None), clips.truth, 1) >= top1
    assert top_k(judged_scores(clips, halves, "standardised"), clips.truth, 1) >= top1
