"""What to calibrate on: moments of training clips, through the very path that runs live.

Only names in the network's own list of training clips can be drawn, so that neither the clips that
chose the checkpoint nor those that report its accuracy have any part in the INT8 scales.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError, SourceError
from edge.flow.stack import FlowBytes, FlowRing, stack_tensor
from edge.frames import Frame, rgb_tensor
from edge.network import NetworkSpec
from edge.preprocess import Preprocessor
from edge.source import open_source

MOMENTS = 3  # samples a clip, in the middle of each third

_NAME = re.compile(r"(?P<folder>[A-Za-z]+)/v_(?P<label>[A-Za-z]+)_g(?P<group>\d+)_c\d+\.avi")
OTHER = "(other)"  # the label of all training clips that show none of the network's classes


T = TypeVar("T")
Content = Frame | list[FlowBytes]  # an analysed frame, or the L flows of a stack


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment of a clip, kept as bytes: the tensor of a stack is four times as large."""

    clip: str
    content: Content


@dataclass(frozen=True)
class Samples:
    """Network inputs (channels, H, W), made anew each time that they are gone through.

    skipped: (name, reason) of clips that were drawn and could not be read.
    """

    spec: NetworkSpec
    samples: tuple[Sample, ...]
    skipped: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self._tensor(sample) for sample in self.samples)

    @property
    def clips(self) -> list[str]:
        return list(dict.fromkeys(sample.clip for sample in self.samples))

    @property
    def list_hash(self) -> str:
        """SHA-256 of the clips' names, one a line."""
        return hashlib.sha256("".join(f"{name}\n" for name in self.clips).encode()).hexdigest()

    @property
    def label_spread(self) -> dict[str, int]:
        """Clips of each of the network's classes, and of all others together."""
        labels = [_label(name, self.spec) for name in self.clips]
        return {label: labels.count(label) for label in (*self.spec.classes, OTHER)}

    @property
    def warnings(self) -> list[str]:
        spread = self.label_spread
        missing = [label for label in self.spec.classes if spread[label] == 0]
        found = [f"skipped {name}: {reason}" for name, reason in self.skipped]
        if missing:
            found.append(f"no calibration clip of {', '.join(missing)}; raise --clips")
        return found

    def split(self, every: int) -> tuple[Samples, Samples]:
        """(the others, each `every`-th clip): no clip gives samples to both."""
        held = set(self.clips[every - 1 :: every])
        parts = [
            tuple(sample for sample in self.samples if (sample.clip in held) == wanted)
            for wanted in (False, True)
        ]
        return Samples(self.spec, parts[0], ()), Samples(self.spec, parts[1], ())

    def _tensor(self, sample: Sample) -> NDArray[np.float32]:
        if isinstance(sample.content, Frame):
            return rgb_tensor(sample.content, self.spec.normalisation)  # (3, H, W)
        assert self.spec.layout is not None
        return stack_tensor(sample.content, self.spec.layout, self.spec.normalisation)  # (2L, H, W)


def draw_samples(spec: NetworkSpec, videos: Path, clips: int, seed: int) -> Samples:
    """MOMENTS samples of each of `clips` training clips below `videos` (UCF101's UCF-101/).

    A clip that cannot be read is listed as skipped, and the next one takes its place. Raises
    DataError where `videos` is missing or no clip can be read.
    """
    if not videos.is_dir():
        raise DataError(f"{videos}: no such folder; give the UCF101 root that holds it")
    preprocessor = Preprocessor(spec.geometry, spec.flow)
    drawn: list[Sample] = []
    skipped: list[tuple[str, str]] = []
    read = 0
    for name in order_clips(spec, seed):
        if read == clips:
            break
        try:
            found = _read_clip(spec, videos / name, preprocessor)
        except SourceError as error:
            skipped.append((name, str(error)))
            continue
        drawn += [Sample(name, content) for content in found]
        read += 1
    if not drawn:
        reason = f"; the first: {skipped[0][1]}" if skipped else ""
        raise DataError(f"{videos}: none of the network's training clips can be read{reason}")
    return Samples(spec, tuple(drawn), tuple(skipped))


def order_clips(spec: NetworkSpec, seed: int) -> list[str]:
    """The network's training clips, so that any beginning of the list is spread evenly.

    Classes take turns, the clips of all other classes counting as one; within a class the groups
    (source videos) take turns. Both orders are shuffled by the seed.
    """
    rng = np.random.default_rng(seed)
    groups: dict[str, dict[str, list[str]]] = {}
    for name in sorted(spec.train_clips):
        label, group = _label(name, spec), name.rpartition("_c")[0]
        groups.setdefault(label, {}).setdefault(group, []).append(name)
    classes = []
    for label in sorted(groups):
        members = [_shuffled(names, rng) for names in groups[label].values()]
        classes.append(_take_turns(_shuffled(members, rng)))
    return _take_turns(_shuffled(classes, rng))


def _shuffled(items: list[T], rng: np.random.Generator) -> list[T]:
    return [items[index] for index in rng.permutation(len(items))]


def _take_turns(queues: list[list[str]]) -> list[str]:
    return [name for turn in zip_longest(*queues) for name in turn if name is not None]


def _label(name: str, spec: NetworkSpec) -> str:
    match = _NAME.fullmatch(name)
    if match is None:
        raise DataError(f"training clip {name!r} is not Class/v_Class_gNN_cNN.avi")
    # file names say HandStandPushups where the class list says HandstandPushups
    known = {label.lower(): label for label in spec.classes}
    return known.get(match["label"].lower(), OTHER)


def _read_clip(spec: NetworkSpec, path: Path, preprocessor: Preprocessor) -> list[Content]:
    """What the network would be given at each moment of a clip.

    Flow is measured for the stacks alone, and nothing is decoded after the last of them. Raises
    SourceError where the clip cannot be read or is too short for a stack.
    """
    flows = spec.stack or 0
    contents: list[Content] = []
    ring = FlowRing(max(flows, 1))
    with open_source(str(path)) as source:
        moments = _moments(source.expected_frames or 0, flows)
        for frame in source if moments else ():
            if not any(moment - flows <= frame.index <= moment for moment in moments):
                preprocessor.clear()
                ring.clear()
                continue
            step = preprocessor.push(frame)
            if step.flow is not None:
                ring.push(step.flow)
            if frame.index in moments:
                contents.append(ring.flows if flows else step.frame)
            if frame.index >= moments[-1]:
                break
        preprocessor.clear()
        if not contents:
            raise SourceError(
                f"{path}: announces {source.expected_frames} frames and gives {source.received}; "
                f"a sample needs {flows + 1}"
            )
    return contents


def _moments(frames: int, flows: int) -> list[int]:
    """Frame indices in the middle of equal parts of what a full stack of flows can end at."""
    room = max(frames - flows, 0)
    middles = {flows + int((part + 0.5) * room / MOMENTS) for part in range(MOMENTS)}
    return sorted(middles) if room else []
