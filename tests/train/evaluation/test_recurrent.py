"""Recurrent fusion: which snippets each score depends on, and learning an order in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from edge.errors import CheckpointError
from train.evaluation.recurrent import (
    STATE,
    Origin,
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


def test_steps_give_the_scores_of_the_clip() -> None:
    inputs = torch.randn(1, 19, 12)
    causal = network("causal")
    with torch.inference_mode():
        expected, state = causal(inputs)[0], [torch.zeros(shape) for shape in STATE.values()]
        for index in range(19):
            logits, *state = causal.step(inputs[:, index], *state)
            torch.testing.assert_close(logits[0], expected[index], atol=1e-5, rtol=0)


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
    scores = clip_scores(network, test.inputs)
    assert (scores.argmax(axis=1) == test.truth).mean() > 0.9
    few = sequences(10, 4)
    networks = [fit_recurrent(kind, few, few, ("a", "b"), 1) for _ in range(2)]  # type: ignore[arg-type]
    for one, two in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.slow
def test_the_causal_form_forgets_an_action_that_has_ended() -> None:
    """Clips have one action each; live video has one after another, and none for long."""
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 2, 200)
    inputs = rng.normal(0, 1, (200, 19, 4)).astype(np.float32)
    inputs[np.arange(200), :, truth] += 1.5
    fitted = fit_recurrent("causal", Sequences(inputs, truth), None, ("a", "b"), 1)
    video = rng.normal(0, 1, (1, 400, 4)).astype(np.float32)
    video[0, :200, 0] += 1.5
    video[0, 200:, 1] += 1.5
    with torch.inference_mode():
        found = fitted(torch.from_numpy(video))[0].argmax(dim=1).numpy()
    assert (found[10:200] == 0).mean() > 0.95
    assert (found[210:] == 1).mean() > 0.95


def test_it_is_loaded_unchanged_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    origin = Origin(2, ("spatial", "temporal"), {"spatial": "a", "temporal": "b"}, 0.36)
    write_recurrent(path, network("causal"), origin)
    loaded, found = load_recurrent(path)
    assert (loaded.kind, loaded.classes, found) == ("causal", CLASSES, origin)
    features = torch.randn(1, 4, 12)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(features), network("causal")(features))
    save_file({"x": torch.zeros(1)}, path)
    for content in (path.read_bytes(), b"", b"\x00" * 64):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="not a recurrent fusion"):
            load_recurrent(path)
