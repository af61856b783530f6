"""Calibration samples: snippets of training clips or of unlabelled video, from the cache.

A clip is decoded once for training, evaluation and calibration. Inputs are built on demand, so that
memory does not grow with the number of clips.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.clips import OTHER, UNLABELLED, known_label, order_clips, order_unlabelled
from edge.bundle.network import NetworkSpec
from edge.errors import DataError
from edge.terminal import track
from train.data.cache import CachedClip, ClipCache, Unusable
from train.data.clips import Clip
from train.data.snippets import middles, tensor_at

logger = logging.getLogger(__name__)

SNIPPETS = 3  # per clip, one in the middle of each third


@dataclass(frozen=True, slots=True)
class Member:
    """A clip with its snippets: the indices of their last frames."""

    clip: CachedClip
    snippets: tuple[int, ...]


@dataclass(frozen=True)
class Samples:
    """Network inputs, as `tensor_at` builds them, again for each iteration.

    skipped: (name, reason) of clips that were drawn but could not be used.
    """

    spec: NetworkSpec
    members: tuple[Member, ...]
    skipped: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return sum(len(member.snippets) for member in self.members)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for member in self.members:
            for index in member.snippets:
                yield tensor_at(member.clip, index, self.spec)

    def name_of(self, number: int) -> str:
        """The name of the clip of a sample, by its number from 0."""
        for member in self.members:
            if number < len(member.snippets):
                return member.clip.clip.name
            number -= len(member.snippets)
        raise IndexError(number)

    @property
    def clips(self) -> list[str]:
        """The names of the clips."""
        return [member.clip.clip.name for member in self.members]

    @property
    def list_hash(self) -> str:
        """SHA-256 of the clips' names, one per line."""
        return hashlib.sha256("".join(f"{name}\n" for name in self.clips).encode()).hexdigest()

    @property
    def label_spread(self) -> dict[str, int]:
        """The number of clips by class; all other classes are counted together."""
        if self.unlabelled:
            return {UNLABELLED: len(self.members)}
        labels = [known_label(member.clip.clip.label, self.spec) for member in self.members]
        return {label: labels.count(label) for label in (*self.spec.classes, OTHER)}

    @property
    def unlabelled(self) -> bool:
        """Whether these are samples of unlabelled video."""
        return any(member.clip.clip.label == UNLABELLED for member in self.members)

    @property
    def warnings(self) -> list[str]:
        """Skipped clips and classes without a clip, one line each."""
        warnings = [f"skipped {name}: {reason}" for name, reason in self.skipped]
        spread = self.label_spread
        missing = [label for label in self.spec.classes if spread.get(label) == 0]
        if missing:
            warnings.append(f"no calibration clip of {', '.join(missing)}; raise --clips")
        return warnings

    def split(self, every: int) -> tuple[Samples, Samples]:
        """(samples of all but every `every`-th clip, samples of every `every`-th clip)."""
        held_out = self.members[every - 1 :: every]
        used = tuple(member for member in self.members if member not in held_out)
        return Samples(self.spec, used, ()), Samples(self.spec, held_out, ())


def draw_samples(
    spec: NetworkSpec, available: Sequence[Clip], clips: int, seed: int, store: ClipCache
) -> Samples:
    """SNIPPETS samples of each of `clips` training clips of the network.

    available: clips of the data set; only the network's training clips are drawn. A clip that
    cannot be used is listed as skipped, and another one is drawn. Raises DataError if there is no
    such clip, or none can be used.
    """
    ordered = order_clips(spec, available, seed)
    if not ordered:
        raise DataError("none of the network's training clips is in this data set")
    return _draw(spec, ordered, clips, SNIPPETS, store)


def draw_unlabelled(
    spec: NetworkSpec, videos: Sequence[Clip], clips: int, seed: int, store: ClipCache
) -> Samples:
    """At least SNIPPETS * `clips` samples of unlabelled videos, spread over the length of each.
    Raises DataError if no video can be used.
    """
    count = min(clips, len(videos))
    snippets = SNIPPETS * -(-clips // count)
    return _draw(spec, order_unlabelled(videos, seed), count, snippets, store)


def _draw(
    spec: NetworkSpec, ordered: Sequence[Clip], clips: int, snippets: int, store: ClipCache
) -> Samples:
    members: list[Member] = []
    skipped: list[tuple[str, str]] = []
    waiting, target = list(ordered), min(clips, len(ordered))
    while waiting and len(members) < target:
        count = target - len(members)
        drawn, waiting = waiting[:count], waiting[count:]
        cached = store.fill(drawn, os.cpu_count() or 1, spec.input.history)
        for clip in track(cached, "clips", total=count):
            if isinstance(clip, Unusable):
                skipped.append((clip.clip.name, clip.reason))
            else:
                members.append(Member(clip, middles(clip, spec.input.history, snippets)))
    if not members:
        raise DataError(f"none of the clips can be read; the first: {skipped[0][1]}")
    samples = Samples(spec, tuple(members), tuple(skipped))
    for warning in samples.warnings:
        logger.warning("%s: %s", spec.stream, warning)
    return samples
