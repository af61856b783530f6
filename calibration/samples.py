"""What to calibrate on: moments of training clips, through the very path that runs live.

Only names in the network's own list of training clips can be drawn, so that neither the clips that
chose the checkpoint nor those that report its accuracy have any part in the INT8 scales.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError, SourceError
from edge.flow.stack import FlowBytes, FlowRing, stack_tensor
from edge.frames import Frame, rgb_tensor
from edge.network import NetworkSpec
from edge.preprocess import Preprocessor
from edge.source import Source, open_source
from edge.stills import list_stills, read_stills

MOMENTS = 3  # samples a clip, in the middle of each third

OTHER = "(other)"  # the label of all training clips that show none of the network's classes


T = TypeVar("T")


class TrainingClip(Protocol):
    """A clip of a data set: its name in the network's list, where it is, and what it shows."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def label(self) -> str: ...
    @property
    def group(self) -> str: ...


Content = Frame | list[FlowBytes]  # an analysed frame, or the L flows of a stack


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment of a clip, kept as bytes: the tensor of a stack is four times as large."""

    clip: str
    label: str
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
        label_of = {sample.clip: sample.label for sample in self.samples}
        labels = [_known(label, self.spec) for label in label_of.values()]
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


def draw_samples(
    spec: NetworkSpec, available: Sequence[TrainingClip], clips: int, seed: int
) -> Samples:
    """MOMENTS samples of each of `clips` of the network's training clips.

    available: the clips of the data set; only those in the network's own list are taken. A clip
    that cannot be read is listed as skipped, and the next one takes its place. Raises DataError
    where none can be read.
    """
    preprocessor = Preprocessor(spec.geometry, spec.flow)
    drawn: list[Sample] = []
    skipped: list[tuple[str, str]] = []
    read = 0
    for clip in order_clips(spec, available, seed):
        if read == clips:
            break
        try:
            found = _read_clip(spec, clip.path, preprocessor)
        except SourceError as error:
            skipped.append((clip.name, str(error)))
            continue
        drawn += [Sample(clip.name, clip.label, content) for content in found]
        read += 1
    if not drawn:
        reason = f"; the first: {skipped[0][1]}" if skipped else ", or is in this data set"
        raise DataError(f"none of the network's training clips can be read{reason}")
    return Samples(spec, tuple(drawn), tuple(skipped))


def order_clips(
    spec: NetworkSpec, available: Sequence[TrainingClip], seed: int
) -> list[TrainingClip]:
    """The network's training clips, so that any beginning of the list is spread evenly.

    Classes take turns, the clips of all other classes counting as one; within a class the groups
    (source videos) take turns. Both orders are shuffled by the seed.
    """
    rng = np.random.default_rng(seed)
    own = set(spec.train_clips)
    groups: dict[str, dict[tuple[str, str], list[TrainingClip]]] = {}
    for clip in sorted((c for c in available if c.name in own), key=lambda clip: clip.name):
        group = (clip.label, clip.group)
        groups.setdefault(_known(clip.label, spec), {}).setdefault(group, []).append(clip)
    classes = []
    for label in sorted(groups):
        members = [_shuffled(clips, rng) for clips in groups[label].values()]
        classes.append(_take_turns(_shuffled(members, rng)))
    return _take_turns(_shuffled(classes, rng))


def _shuffled(items: list[T], rng: np.random.Generator) -> list[T]:
    return [items[index] for index in rng.permutation(len(items))]


def _take_turns(queues: list[list[T]]) -> list[T]:
    return [item for turn in zip_longest(*queues) for item in turn if item is not None]


def _known(label: str, spec: NetworkSpec) -> str:
    return label if label in spec.classes else OTHER


def _read_clip(spec: NetworkSpec, path: Path, preprocessor: Preprocessor) -> list[Content]:
    """What the network would be given at each moment of a clip.

    Flow is measured for the stacks alone, and nothing is decoded after the last of them. Raises
    SourceError where the clip cannot be read or is too short for a stack.
    """
    flows = spec.stack or 0
    contents: list[Content] = []
    ring = FlowRing(max(flows, 1))
    with _open(path) as source:
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


@contextmanager
def _open(path: Path) -> Iterator[Source | _Stills]:
    if path.is_dir():
        yield _Stills(path)
        return
    with open_source(str(path)) as source:
        yield source


class _Stills:
    """A folder of pictures, counted as a source counts its frames."""

    def __init__(self, folder: Path) -> None:
        self.expected_frames = self.received = len(list_stills(folder))
        self._folder = folder

    def __iter__(self) -> Iterator[Frame]:
        return read_stills(self._folder)


def _moments(frames: int, flows: int) -> list[int]:
    """Frame indices in the middle of equal parts of what a full stack of flows can end at."""
    room = max(frames - flows, 0)
    middles = {flows + int((part + 0.5) * room / MOMENTS) for part in range(MOMENTS)}
    return sorted(middles) if room else []
