"""The training set: random snippets of clips as augmented tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from edge.bundle.network import NetworkSpec
from edge.text import NO_CLASS
from train.data.cache import CachedClip
from train.data.snippets import augmented_tensor
from train.data.transforms import draw_crop
from train.recipe import Recipe

CLIP_S = 7.0  # clips of UCF101 last as long, on average
Draw = tuple[int, int]  # (epoch, from 1; number of a sample in it, from 0)


class Item(NamedTuple):
    """A sample. inputs: (K, channels, H, W); target: scores (C,); shown: the inputs of the teacher
    for the same snippets, (K, its channels, H, W), or (0,) if there is none."""

    inputs: torch.Tensor
    target: torch.Tensor
    shown: torch.Tensor


@dataclass(frozen=True, slots=True)
class Sample:
    """The part of a clip that snippets are drawn from. clip: its index; start, end: as shares of
    its length, 0 to 1.
    """

    clip: int
    start: float
    end: float


class TrainingSet(Dataset[Item]):
    """Samples of the training clips. A sample depends on its Draw and the recipe alone, so that it
    is the same in every process and after a resume.

    Clips of classes with few clips give more samples. The target of a negative, a clip of none of
    the classes, is equal scores, so that a threshold separates unknown actions.
    """

    def __init__(
        self,
        clips: list[CachedClip],
        spec: NetworkSpec,
        recipe: Recipe,
        teacher: NetworkSpec | None = None,
    ) -> None:
        """teacher: of the network that teaches, if there is one."""
        self.clips, self.spec, self.recipe, self.teacher = clips, spec, recipe, teacher
        sampling = recipe.sampling
        sizes = {label: sum(c.clip.label == label for c in clips) for label in spec.classes}
        largest = max(sizes.values())
        self.samples: list[Sample] = []
        for index, clip in enumerate(clips):
            size = sizes.get(clip.clip.label)
            factor = sampling.negatives if size is None else min(largest / size, sampling.balance)
            if clip.clip.label == NO_CLASS:  # footage is not cut into clips of a length
                factor *= max(1.0, clip.times_s[-1] / CLIP_S)
            count = round(sampling.repeats * factor)
            self.samples += _samples_of(index, count, sampling.segments)
        labels = [clips[sample.clip].clip.label for sample in self.samples]
        self.counts = [labels.count(label) for label in spec.classes]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> Item:
        """Augmented inputs of K snippets, one per segment, and the target."""
        epoch, number = draw
        sample = self.samples[number]
        clip = self.clips[sample.clip]
        # another seed than that of `snippet_frames`, which can be called without building tensors
        rng = np.random.default_rng((self.recipe.seed, epoch, number, 1))
        augmentation = self.recipe.augmentation
        crop = draw_crop(rng, clip.size_hw, augmentation)
        size_hw = self._size_hw(epoch)
        snippets = self.snippet_frames(draw)

        def tensors(spec: NetworkSpec) -> torch.Tensor:
            colour = augmentation.colour
            rows = [
                augmented_tensor(clip, index, spec, crop, size_hw, rng, colour)
                for index in snippets
            ]
            return torch.from_numpy(np.stack(rows))

        inputs, target = tensors(self.spec), target_scores(clip.clip.label, self.spec)
        shown = torch.empty(0) if self.teacher is None else tensors(self.teacher)
        return Item(inputs, torch.from_numpy(target), shown)

    def _size_hw(self, epoch: int) -> tuple[int, int]:
        augmentation, epochs = self.recipe.augmentation, self.recipe.schedule.epochs
        if not augmentation.size_px or epoch > epochs - augmentation.full_size_epochs:
            return self.spec.geometry.size_hw
        return augmentation.size_px, augmentation.size_px

    def snippet_frames(self, draw: Draw) -> list[int]:
        """The index of each snippet's last frame: one drawn from each of K equal segments."""
        epoch, number = draw
        sample = self.samples[number]
        rng = np.random.default_rng((self.recipe.seed, epoch, number))
        edges = np.linspace(sample.start, sample.end, self.recipe.sampling.segments + 1)
        # the same first frame for networks of one frame: all streams learn from the same snippets
        clip, history = self.clips[sample.clip], self.recipe.sampling.stack
        longest = max(history, self.spec.input.history)
        # of a clip that is too short for a network over time, the first frame is repeated
        usable = clip.usable(longest) or clip.usable(history)
        offsets = [int(len(usable) * rng.uniform(low, high)) for low, high in pairwise(edges)]
        return [usable[min(offset, len(usable) - 1)] for offset in offsets]

    def describe(self, draw: Draw) -> str:
        """The clip and the frames of a sample, for messages."""
        frames = ", ".join(str(index) for index in self.snippet_frames(draw))
        return f"{self.clips[self.samples[draw[1]].clip].clip.name} at frame {frames}"


def _samples_of(clip: int, count: int, segments: int) -> list[Sample]:
    """`count` samples of a clip. With one segment each has a part of the clip of its own; with
    several each spans the whole clip.
    """
    if segments > 1:
        return [Sample(clip, 0.0, 1.0)] * count
    edges = np.linspace(0, 1, count + 1)
    return [Sample(clip, float(low), float(high)) for low, high in pairwise(edges)]


def target_scores(label: str, spec: NetworkSpec) -> NDArray[np.float32]:
    """The target (C,) of a label: 1 at its class; 1 / C everywhere if it is none of the classes."""
    count = len(spec.classes)
    if label not in spec.classes:
        return np.full(count, 1 / count, np.float32)
    return np.eye(count, dtype=np.float32)[spec.classes.index(label)]


class Batches(Sampler[list[Draw]]):
    """One process's share of an epoch's shuffled batches, starting at any step.

    samples: in the training set; batch: B, over all processes; rank: of this process, of `world`.
    The order of the samples depends on the seed and the epoch alone. Step s takes samples s B to
    (s + 1) B - 1 in this order, of which this process takes each world-th. An incomplete last
    batch is left out; a training set smaller than a batch is one batch.
    """

    def __init__(self, samples: int, batch: int, seed: int, rank: int, world: int) -> None:
        self.samples, self.seed, self.rank, self.world = samples, seed, rank, world
        self.batch = min(batch, samples // world * world)
        self.epoch, self.first_step = 1, 0

    def __len__(self) -> int:
        """Steps per epoch."""
        return self.samples // self.batch

    def start_at(self, epoch: int, step: int) -> None:
        """Set the epoch (from 1) and step (from 0) at which the next iteration starts."""
        self.epoch, self.first_step = epoch, step

    def draws(self, epoch: int, step: int) -> list[Draw]:
        """The whole batch of a step, of all processes."""
        order = self._order(epoch)[step * self.batch : (step + 1) * self.batch]
        return [(epoch, int(number)) for number in order]

    def __iter__(self) -> Iterator[list[Draw]]:
        order = self._order(self.epoch)
        for step in range(self.first_step, len(self)):
            batch = order[step * self.batch : (step + 1) * self.batch]
            yield [(self.epoch, int(number)) for number in batch[self.rank :: self.world]]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.seed, epoch)).permutation(self.samples)
