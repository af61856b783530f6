"""Recurrent fusion: which snippets each score depends on, and learning an order in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from edge.decision.fusion import softmax
from edge.errors import CheckpointError
from train.evaluation.recurrent import (
    LiveFusion,
    RecurrentFusion,
    Sequences,
    clip_scores,
    fit_recurrent,
    load_recurrent,
    write_recurrent,
)

CLASSES = ("a", "b", "c")


def network(kind: str) -> RecurrentFusion:
    torch.manual_seed(1)
    return RecurrentFusion(kind, 12, CLASSES).eval()  # type: ignore[arg-type]


@pytest.mark.slow
@given(st.integers(1, 18), st.integers(0, 2**16))
def test_causal_scores_do_not_depend_on_later_snippets(first: int, seed: int) -> None:
    torch.manual_seed(seed)
    features = torch.randn(2, 19, 12)
    other = features.clone()
    other[:, first:] = torch.randn(2, 19 - first, 12) * 5
    with torch.inference_mode():
        logits, changed = network("causal")(features), network("causal")(other)
    assert logits.shape == (2, 19, 3)
    assert torch.equal(logits[:, :first], changed[:, :first])
    assert not torch.equal(logits[:, first:], changed[:, first:])


def test_whole_clip_scores_depend_on_the_first_and_the_last_snippet() -> None:
    features = torch.randn(1, 19, 12)
    with torch.inference_mode():
        before = network("whole")(features)
        assert before.shape == (1, 1, 3)
        for index in (0, 18):
            other = features.clone()
            other[:, index] += 3
            assert not torch.allclose(network("whole")(other), before)


def test_live_fusion_gives_the_scores_of_the_clip() -> None:
    features = np.random.default_rng(2).standard_normal((19, 12), np.float32)
    live = LiveFusion(network("causal"))
    for _ in range(2):
        with torch.inference_mode():
            expected = softmax(network("causal")(torch.from_numpy(features[None]))[0].numpy(), 1.0)
        scores = np.stack([live.step(row) for row in features])
        np.testing.assert_allclose(scores, expected, atol=1e-5)
        live.clear()
    with pytest.raises(CheckpointError, match="needs the whole video"):
        LiveFusion(network("whole"))


def sequences(clips: int, seed: int) -> Sequences:
    """Clips of two classes that differ only in the order of two events."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, clips)
    features = rng.normal(0, 0.3, (clips, 19, 12)).astype(np.float32)
    for row, kind in enumerate(truth):
        first, second = sorted(rng.choice(19, 2, replace=False))
        features[row, first, kind] += 4
        features[row, second, 1 - kind] += 4
    return Sequences(features, truth)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["causal", "whole"])
def test_it_learns_an_order_in_time_and_is_reproducible(kind: str) -> None:
    train, held, test = (sequences(count, seed) for seed, count in ((1, 200), (2, 60), (3, 60)))
    network = fit_recurrent(kind, train, held, ("a", "b"), 1)  # type: ignore[arg-type]
    scores = clip_scores(network, test.features)
    assert (scores.argmax(axis=1) == test.truth).mean() > 0.9
    few = sequences(10, 4)
    networks = [fit_recurrent(kind, few, few, ("a", "b"), 1) for _ in range(2)]  # type: ignore[arg-type]
    for one, two in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(one, two)


def test_it_is_loaded_unchanged_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    write_recurrent(path, network("causal"))
    loaded = load_recurrent(path)
    assert (loaded.kind, loaded.classes) == ("causal", CLASSES)
    features = torch.randn(1, 4, 12)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(features), network("causal")(features))
    save_file({"x": torch.zeros(1)}, path)
    for content in (path.read_bytes(), b"", b"\x00" * 64):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="not a recurrent fusion"):
            load_recurrent(path)
