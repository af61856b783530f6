"""What to calibrate on: moments of clips, kept on disk one file a clip.

Memory does not grow with the number of clips, and a run that was interrupted reads no clip twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.clips import (
    OTHER,
    UNLABELLED,
    TrainingClip,
    UnlabelledVideo,
    known_label,
    order_clips,
    order_unlabelled,
)
from calibration.snippet_reader import Moments, read_moments, tensors
from edge.bundle.network import NetworkSpec
from edge.errors import DataError, ExportError, SourceError
from edge.files import make_private, why, write_atomic
from edge.motion.preprocessor import Preprocessor
from edge.terminal import track
from edge.video.frames import Matrix

logger = logging.getLogger(__name__)

MOMENTS = 3  # samples a clip, in the middle of each third
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Member:
    """A clip that gives samples: its name and label, their file and number."""

    clip: str
    label: str
    file: Path
    count: int


@dataclass(frozen=True)
class Samples:
    """Network inputs (channels, H, W), made anew each time that they are gone through.

    skipped: (name, reason) of clips that were drawn and could not be read.
    """

    spec: NetworkSpec
    members: tuple[Member, ...]
    skipped: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return sum(member.count for member in self.members)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for member in self.members:
            kept = _load(member.file)
            if kept is None:
                raise ExportError(f"{member.file}: was there and is damaged; start again")
            yield from tensors(*kept, self.spec)

    def name_of(self, number: int) -> str:
        """The clip that gives a sample."""
        for member in self.members:
            if number < member.count:
                return member.clip
            number -= member.count
        raise IndexError(number)

    @property
    def clips(self) -> list[str]:
        return [member.clip for member in self.members]

    @property
    def list_hash(self) -> str:
        """SHA-256 of the clips' names, one a line."""
        return hashlib.sha256("".join(f"{name}\n" for name in self.clips).encode()).hexdigest()

    @property
    def label_spread(self) -> dict[str, int]:
        """Clips of each of the network's classes, and of all others together."""
        if self.unlabelled:
            return {UNLABELLED: len(self.members)}
        labels = [known_label(member.label, self.spec) for member in self.members]
        return {label: labels.count(label) for label in (*self.spec.classes, OTHER)}

    @property
    def unlabelled(self) -> bool:
        return any(member.label == UNLABELLED for member in self.members)

    @property
    def warnings(self) -> list[str]:
        found = [f"skipped {name}: {reason}" for name, reason in self.skipped]
        spread = self.label_spread
        missing = [label for label in self.spec.classes if spread.get(label) == 0]
        if missing:
            found.append(f"no calibration clip of {', '.join(missing)}; raise --clips")
        return found

    def split(self, every: int) -> tuple[Samples, Samples]:
        """(the others, each `every`-th clip): no clip gives samples to both."""
        held = self.members[every - 1 :: every]
        used = tuple(member for member in self.members if member not in held)
        return Samples(self.spec, used, ()), Samples(self.spec, held, ())


def draw_samples(
    spec: NetworkSpec,
    available: Sequence[TrainingClip],
    clips: int,
    seed: int,
    folder: Path,
) -> Samples:
    """MOMENTS samples of each of `clips` of the network's training clips, kept in `folder`.

    available: the clips of the data set; only those in the network's own list are taken. A clip
    that cannot be read is listed as skipped, and the next one takes its place. Raises DataError
    where none can be read.
    """
    ordered = order_clips(spec, available, seed)
    if not ordered:
        raise DataError("none of the network's training clips is in this data set")
    return _draw(spec, ordered, clips, MOMENTS, folder)


def draw_unlabelled(
    spec: NetworkSpec,
    footage: Sequence[UnlabelledVideo],
    clips: int,
    seed: int,
    folder: Path,
) -> Samples:
    """As many samples of recordings without labels, spread over the length of each."""
    recordings = min(clips, len(footage))
    each = MOMENTS * -(-clips // recordings)
    return _draw(spec, order_unlabelled(footage, seed), recordings, each, folder)


def _draw(
    spec: NetworkSpec,
    ordered: Sequence[TrainingClip],
    clips: int,
    moments: int,
    folder: Path,
) -> Samples:
    preprocessor = Preprocessor(spec.geometry, spec.flow)
    members: list[Member] = []
    skipped: list[tuple[str, str]] = []
    waiting, wanted = iter(ordered), min(clips, len(ordered))
    for _ in track(range(wanted), "clips", total=wanted):
        for clip in waiting:
            try:
                file = folder / f"{_key(spec, clip, moments)}.npz"
                kept = _load(file) or _store(
                    file, *read_moments(spec, clip.path, moments, preprocessor)
                )
            except SourceError as error:
                skipped.append((clip.name, str(error)))
                continue
            members.append(Member(clip.name, clip.label, file, len(kept[0])))
            break
    if not members:
        raise DataError(f"none of the clips can be read; the first: {skipped[0][1]}")
    samples = Samples(spec, tuple(members), tuple(skipped))
    for warning in samples.warnings:
        logger.warning("%s: %s", spec.stream, warning)
    return samples


def _key(spec: NetworkSpec, clip: TrainingClip, moments: int) -> str:
    """What a file's content depends on. Raises SourceError where the clip is not there."""
    try:
        status = clip.path.stat()
    except OSError as error:
        raise SourceError(f"{clip.path}: {error.strerror}") from None
    parts: dict[str, Any] = {
        "format": _FORMAT,
        "clip": [str(clip.path.resolve()), status.st_size, status.st_mtime_ns],
        "geometry": spec.geometry.model_dump(),
        "flow": spec.flow.model_dump() if spec.stack else None,
        "stack": spec.stack,
        "moments": moments,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _store(file: Path, moments: Moments, matrix: Matrix) -> tuple[Moments, Matrix]:
    try:
        make_private(file.parent)
        with write_atomic(file) as stream:
            np.savez_compressed(stream, moments=moments, matrix=np.array(matrix))
    except OSError as error:
        raise ExportError(f"{file}: cannot be written ({why(error)})") from None
    return moments, matrix


def _load(file: Path) -> tuple[Moments, Matrix] | None:
    """What was kept, or None where there is nothing or it is damaged."""
    try:
        with np.load(file, allow_pickle=False) as kept:
            matrix: Matrix = "bt709" if str(kept["matrix"]) == "bt709" else "bt601"
            return kept["moments"], matrix
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error):
        return None
