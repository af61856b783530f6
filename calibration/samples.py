"""Calibration samples: snippets of training clips or of unlabelled video, from the cache.

A clip is decoded once for training, evaluation and calibration. Memory does not grow with the
number of clips: inputs are built on demand.
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

SNIPPETS = 3  # per clip, in the middle of each third


@dataclass(frozen=True, slots=True)
class Member:
    """A clip with its snippets: the indices of their last frames."""

    clip: CachedClip
    snippets: tuple[int, ...]


@dataclass(frozen=True)
class Samples:
    """Network inputs (channels, H, W), built again for each iteration.

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
        """The name of the clip of a sample."""
        for member in self.members:
            if number < len(member.snippets):
                return member.clip.clip.name
            number -= len(member.snippets)
        raise IndexError(number)

    @property
    def clips(self) -> list[str]:
        return [member.clip.clip.name for member in self.members]

    @property
    def list_hash(self) -> str:
        """SHA-256 of the clips' names, one per line."""
        return hashlib.sha256("".join(f"{name}\n" for name in self.clips).encode()).hexdigest()

    @property
    def label_spread(self) -> dict[str, int]:
        """Clips of each of the network's classes, and of all others together."""
        if self.unlabelled:
            return {UNLABELLED: len(self.members)}
        labels = [known_label(member.clip.clip.label, self.spec) for member in self.members]
        return {label: labels.count(label) for label in (*self.spec.classes, OTHER)}

    @property
    def unlabelled(self) -> bool:
        return any(member.clip.clip.label == UNLABELLED for member in self.members)

    @property
    def warnings(self) -> list[str]:
        warnings = [f"skipped {name}: {reason}" for name, reason in self.skipped]
        spread = self.label_spread
        missing = [label for label in self.spec.classes if spread.get(label) == 0]
        if missing:
            warnings.append(f"no calibration clip of {', '.join(missing)}; raise --clips")
        return warnings

    def split(self, every: int) -> tuple[Samples, Samples]:
        """(the other clips, every `every`-th clip)."""
        held = self.members[every - 1 :: every]
        used = tuple(member for member in self.members if member not in held)
        return Samples(self.spec, used, ()), Samples(self.spec, held, ())


def draw_samples(
    spec: NetworkSpec, available: Sequence[Clip], clips: int, seed: int, store: ClipCache
) -> Samples:
    """SNIPPETS samples of each of `clips` of the network's training clips.

    available: the clips of the data set; only those in the network's own list are taken. A clip
    that cannot be used is listed as skipped, and the next one takes its place. Raises DataError
    if none is there, or none can be used.
    """
    ordered = order_clips(spec, available, seed)
    if not ordered:
        raise DataError("none of the network's training clips is in this data set")
    return _draw(spec, ordered, clips, SNIPPETS, store)


def draw_unlabelled(
    spec: NetworkSpec, footage: Sequence[Clip], clips: int, seed: int, store: ClipCache
) -> Samples:
    """As many samples of recordings without labels, spread over the length of each."""
    recordings = min(clips, len(footage))
    each = SNIPPETS * -(-clips // recordings)
    return _draw(spec, order_unlabelled(footage, seed), recordings, each, store)


def _draw(
    spec: NetworkSpec, ordered: Sequence[Clip], clips: int, snippets: int, store: ClipCache
) -> Samples:
    members: list[Member] = []
    skipped: list[tuple[str, str]] = []
    waiting, wanted = list(ordered), min(clips, len(ordered))
    while waiting and len(members) < wanted:
        count = wanted - len(members)
        drawn, waiting = waiting[:count], waiting[count:]
        found = store.fill(drawn, os.cpu_count() or 1, spec.input.history)
        for one in track(found, "clips", total=count):
            if isinstance(one, Unusable):
                skipped.append((one.clip.name, one.reason))
            else:
                members.append(Member(one, middles(len(one), spec.input.history, snippets)))
    if not members:
        raise DataError(f"none of the clips can be read; the first: {skipped[0][1]}")
    samples = Samples(spec, tuple(members), tuple(skipped))
    for warning in samples.warnings:
        logger.warning("%s: %s", spec.stream, warning)
    return samples
