"""The training set: random snippets of clips as augmented tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from edge.bundle.network import NetworkSpec
from train.data.cache import CachedClip
from train.data.snippets import augmented_tensor
from train.data.transforms import draw_crop
from train.recipe import Recipe

Draw = tuple[int, int]  # an epoch and the number of a sample in it
Item = tuple[torch.Tensor, torch.Tensor]  # (K, channels, H, W) and target scores (C,)


@dataclass(frozen=True, slots=True)
class Sample:
    """A clip (its number) and the part of it, in 0..1, that a sample's moments are drawn from."""

    clip: int
    start: float
    end: float


class TrainingSet(Dataset[Item]):
    """Samples of the training clips. What sample (epoch, number) is depends on nothing else, so
    that any process, at any time, draws the same.

    A class with few clips gives more samples of each. A clip of no class in the list is trained
    towards equal scores, which is what makes a threshold for "unknown" mean something.
    """

    def __init__(self, clips: list[CachedClip], spec: NetworkSpec, recipe: Recipe) -> None:
        self.clips, self.spec, self.recipe = clips, spec, recipe
        sampling = recipe.sampling
        counts = {label: sum(c.clip.label == label for c in clips) for label in spec.classes}
        most = max(counts.values())
        self.samples: list[Sample] = []
        for index, clip in enumerate(clips):
            own = counts.get(clip.clip.label)
            if own is None:
                number = round(sampling.repeats * sampling.negatives)
            else:
                number = round(sampling.repeats * min(most / own, sampling.balance))
            self.samples += _shares(index, number, sampling.segments)
        labels = [clips[sample.clip].clip.label for sample in self.samples]
        self.counts = [labels.count(label) for label in spec.classes]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> Item:
        """Augmented inputs of K snippets, one per segment, (K, channels, H, W), and the target."""
        epoch, number = draw
        sample = self.samples[number]
        clip = self.clips[sample.clip]
        # a stream of its own: the moments of a sample can be told without making its tensors
        rng = np.random.default_rng((self.recipe.seed, epoch, number, 1))
        augmentation = self.recipe.augmentation
        crop = draw_crop(rng, clip.size_hw, augmentation)
        size_hw = self._size_hw(epoch)
        tensors = [
            augmented_tensor(clip, index, self.spec, crop, size_hw, rng, augmentation.colour)
            for index in self.moments(draw)
        ]
        target = torch.from_numpy(target_scores(clip.clip.label, self.spec))
        return torch.from_numpy(np.stack(tensors)), target

    def _size_hw(self, epoch: int) -> tuple[int, int]:
        augmentation, epochs = self.recipe.augmentation, self.recipe.schedule.epochs
        if not augmentation.size_px or epoch > epochs - augmentation.full_size_epochs:
            return self.spec.geometry.size_hw
        return augmentation.size_px, augmentation.size_px

    def moments(self, draw: Draw) -> list[int]:
        """The frame indices of a sample, one drawn from each of its K equal segments."""
        epoch, number = draw
        sample = self.samples[number]
        rng = np.random.default_rng((self.recipe.seed, epoch, number))
        edges = np.linspace(sample.start, sample.end, self.recipe.sampling.segments + 1)
        # of a network that sees one frame, too: all streams learn from the same moments
        first = self.recipe.sampling.stack
        room = len(self.clips[sample.clip]) - first
        places = [int(room * rng.uniform(low, high)) for low, high in pairwise(edges)]
        return [first + min(place, room - 1) for place in places]

    def describe(self, draw: Draw) -> str:
        """The clip and frames of a sample, as text for messages."""
        frames = ", ".join(str(index) for index in self.moments(draw))
        return f"{self.clips[self.samples[draw[1]].clip].clip.name} at frame {frames}"


def _shares(clip: int, number: int, segments: int) -> list[Sample]:
    """`number` samples of a clip. With one segment each has its own part of it, else all of it."""
    if segments > 1:
        return [Sample(clip, 0.0, 1.0)] * number
    edges = np.linspace(0, 1, number + 1)
    return [Sample(clip, float(edges[i]), float(edges[i + 1])) for i in range(number)]


def target_scores(label: str, spec: NetworkSpec) -> NDArray[np.float32]:
    """1 at the label's class, or equal scores when it is none of the network's classes. (C,)"""
    count = len(spec.classes)
    if label not in spec.classes:
        return np.full(count, 1 / count, np.float32)
    return np.eye(count, dtype=np.float32)[spec.classes.index(label)]


class Batches(Sampler[list[Draw]]):
    """One process's share of an epoch's shuffled global batches, starting at any step.

    The order depends on seed and epoch alone. Step s of the epoch takes samples s B to (s+1) B - 1
    of it, of which this process takes each world-th. What is left over at the end sits this epoch
    out; a training set smaller than a batch is one batch.
    """

    def __init__(self, samples: int, batch: int, seed: int, rank: int, world: int) -> None:
        self.samples, self.seed, self.rank, self.world = samples, seed, rank, world
        self.batch = min(batch, samples // world * world)
        self.epoch, self.first_step = 1, 0

    def __len__(self) -> int:
        """Steps per epoch."""
        return self.samples // self.batch

    def start_at(self, epoch: int, step: int) -> None:
        """Set where the next iteration starts."""
        self.epoch, self.first_step = epoch, step

    def draws(self, epoch: int, step: int) -> list[Draw]:
        """The whole global batch of a step."""
        order = self._order(epoch)[step * self.batch : (step + 1) * self.batch]
        return [(epoch, int(number)) for number in order]

    def __iter__(self) -> Iterator[list[Draw]]:
        order = self._order(self.epoch)
        for step in range(self.first_step, len(self)):
            part = order[step * self.batch : (step + 1) * self.batch]
            yield [(self.epoch, int(number)) for number in part[self.rank :: self.world]]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.seed, epoch)).permutation(self.samples)
