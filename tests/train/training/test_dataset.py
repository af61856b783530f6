"""Training samples: reproducible, and shared among processes without loss or repetition."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge.text import NO_CLASS
from tests.support.clips import write_clip
from tests.support.networks import make_spec
from train.data.cache import CachedClip, open_cache
from train.data.clips import Clip
from train.recipe import load_recipe
from train.training.dataset import Batches, TrainingSet

SIZES = st.tuples(st.integers(1, 200), st.integers(1, 40), st.integers(1, 4))


@given(SIZES, st.integers(0, 9), st.integers(1, 5), st.data())
def test_processes_share_the_batches_of_a_single_process(
    sizes: tuple[int, int, int], seed: int, epoch: int, data: st.DataObject
) -> None:
    samples, each, world = sizes
    if samples < world:
        return
    alone = Batches(samples, each * world, seed, 0, 1)
    ranks = [Batches(samples, each * world, seed, rank, world) for rank in range(world)]
    first = data.draw(st.integers(0, len(alone)))
    parts = []
    for batches in ranks:
        assert batches.batch % world == 0
        assert len(batches) >= 1
        batches.start_at(epoch, first)
        parts.append(list(batches))
    for step, shares in enumerate(zip(*parts, strict=True), first):
        together = sorted(draw for share in shares for draw in share)
        assert together == sorted(ranks[0].draws(epoch, step))
        assert len({len(share) for share in shares}) == 1
    seen = [draw for part in parts for share in part for draw in share]
    assert len(seen) == len(set(seen))


def test_an_epoch_has_each_sample_once_but_an_incomplete_last_batch() -> None:
    batches = Batches(37, 8, 1, 0, 1)
    orders = []
    for epoch in (1, 2):
        batches.start_at(epoch, 0)
        orders.append([number for batch in batches for _, number in batch])
        assert len(orders[-1]) == len(set(orders[-1])) == 32
    assert orders[0] != orders[1]


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> list[CachedClip]:
    """Three clips of Biking, one of Diving, one of no class."""
    root = tmp_path_factory.mktemp("clips")
    store = open_cache(root / "cache", make_spec("temporal"))
    labels = ("Biking", "Biking", "Biking", "Diving", "Archery")
    clips = [
        Clip(f"{label}/{i}.avi", write_clip(root / f"{i}.avi", frames=14 + i), label, f"{i:02}")
        for i, label in enumerate(labels)
    ]
    return list(store.fill(clips, 1, 10))


@pytest.mark.slow
def test_samples_are_reproducible(cached: list[CachedClip]) -> None:
    recipe = load_recipe("default", "temporal")
    items = [TrainingSet(cached, make_spec("temporal"), recipe)[3, 5] for _ in range(2)]
    for first, second in zip(*items, strict=True):
        assert torch.equal(first, second)
    assert items[0][0].shape == (1, 20, 160, 160)


def test_the_last_epochs_are_at_the_networks_input_size(cached: list[CachedClip]) -> None:
    recipe = load_recipe("default", "spatial", ("schedule.epochs=5",))
    samples = TrainingSet(cached, make_spec("spatial"), recipe)
    sides = [samples[epoch, 0][0].shape[-1] for epoch in (1, 3, 4, 5)]
    assert sides == [160, 160, 224, 224]


def test_each_segment_gives_a_snippet_in_order_of_time(cached: list[CachedClip]) -> None:
    recipe = load_recipe("default", "spatial", ("sampling.segments=3", "augmentation.size_px=32"))
    samples = TrainingSet(cached, make_spec("spatial"), recipe)
    for number in range(len(samples)):
        indices = samples.snippet_frames((1, number))
        frames = len(cached[samples.samples[number].clip])
        assert indices == sorted(indices)
        assert 10 <= indices[0] <= indices[-1] < frames
    assert samples[1, 0][0].shape == (3, 3, 32, 32)


def test_the_described_frames_are_those_of_the_tensors(cached: list[CachedClip]) -> None:
    quiet = ("augmentation.flip=false", "augmentation.scales=[1.0]", "augmentation.colour=0.0")
    recipe = load_recipe("default", "temporal", (*quiet, "augmentation.size_px=0"))
    spec = make_spec("temporal")
    samples = TrainingSet(cached, spec, recipe)
    from train.data.snippets import tensor_at

    for draw in ((1, 0), (2, 7)):
        clip = cached[samples.samples[draw[1]].clip]
        (index,) = samples.snippet_frames(draw)
        np.testing.assert_array_equal(samples[draw][0][0].numpy(), tensor_at(clip, index, spec))
        assert samples.describe(draw) == f"{clip.clip.name} at frame {index}"


def test_small_classes_are_sampled_more_often_and_negatives_less(
    cached: list[CachedClip],
) -> None:
    recipe = load_recipe("default", "temporal", ("sampling.repeats=4",))
    samples = TrainingSet(cached, make_spec("temporal"), recipe)
    assert samples.counts == [12, 12, 0]
    assert len(samples) == 12 + 12 + 2
    none = recipe.sampling.model_copy(update={"negatives": 0.0, "balance": 1.0})
    plain = TrainingSet(cached, make_spec("temporal"), recipe.model_copy(update={"sampling": none}))
    assert plain.counts == [12, 4, 0]
    assert len(plain) == 16
    assert replace(plain.samples[0], end=0.25) == plain.samples[0]


@pytest.mark.slow
def test_long_footage_is_sampled_by_its_length(tmp_path: Path) -> None:
    store = open_cache(tmp_path / "cache", make_spec("temporal"))
    lengths = {"short": 20, "long": 350}  # at 25 frames a second: 14 s are two clips
    clips = [Clip("Biking/1.avi", write_clip(tmp_path / "1.avi", frames=20), "Biking", "01")] + [
        Clip(f"footage:{name}", write_clip(tmp_path / f"{name}.avi", frames=count), NO_CLASS, name)
        for name, count in lengths.items()
    ]
    recipe = load_recipe("default", "spatial", ("sampling.repeats=4", "sampling.negatives=1.0"))
    samples = TrainingSet(list(store.fill(clips, 1, 0)), make_spec("spatial"), recipe).samples
    assert [sum(sample.clip == number for sample in samples) for number in range(3)] == [4, 4, 8]
