"""The cache of resized frames and their flow, computed once per clip and stored losslessly.

    CACHE/<hash of geometry and format>/<hash of the clip's files>/
        frames.npy, clip.json               the frames, whatever is measured on them
        flow-<hash of motion>.npy           of each method of motion that was asked for
    CACHE/content/                          hashes of files, see content.py

frames.npy: (T, 3/2 H W) uint8, the I420 planes of each resized frame; flow-*.npy: (T-1, 2, H, W)
uint8, measured on these frames, of the motion vectors that the video has for them, or as it was
published with the data set (remove the cache where that is replaced by other flow). Where they
would take much of the room that is free, they are compressed without loss (see rows.py). An input
costs what it reads. The hashes make frames of another geometry another cache and flow of another
kind another file, and clips are known by what is in them: they can never be mixed up, and frames
are decoded once for all of them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from edge.bundle.network import NetworkSpec
from edge.errors import DataError, SourceError
from edge.files import make_private, why, write_atomic
from edge.inputs.builder import motions_of
from edge.motion.method import need_vectors, open_motion
from edge.motion.preprocessor import Step
from edge.motion.published import PublishedSpec
from edge.motion.quantise import FlowBytes
from edge.spec import Spec
from edge.terminal import track
from edge.video.frames import Frame, Geometry, Matrix, pack_i420, resize_to_model, unpack_i420
from edge.video.isolation import Death, map_apart
from train.data.cache_size import Room, expected_frames, needs_compression
from train.data.clips import Clip
from train.data.content import ContentHashes
from train.data.decode import read_frames
from train.data.published_flow import published_flows
from train.data.rows import Bytes, Rows, holds, open_rows, write_rows
from train.data.timeline import Pacer, Timeline

logger = logging.getLogger(__name__)

SHOWN = 5  # clips that cannot be used, by name; the others are counted
_FORMAT = 6
_FRAMES, _NOTE = "frames", "clip.json"
_NO_PLANE = np.empty((0, 0), np.uint8)  # of a frame that is not read


@dataclass(frozen=True)
class CachedClip:
    """One clip, ready to sample. Flow t-1 leads to frame t; frame 0 has none."""

    clip: Clip
    size_hw: tuple[int, int]
    timeline: Timeline
    matrix: Matrix
    folder: Path
    sha256: str  # of the video, or of all pictures one after another
    motions: tuple[Spec, ...]

    @property
    def times_s(self) -> tuple[float, ...]:
        return self.timeline.times_s

    def __len__(self) -> int:
        return len(self.times_s)

    def frame(self, index: int) -> Frame:
        """Frame `index` at the model's size."""
        return self._unpack(self._open_frames()[index], index)

    def frames(self) -> Iterator[Frame]:
        """All frames, in order."""
        rows = self._open_frames()
        return (self._unpack(rows[index], index) for index in range(len(self)))

    def usable(self, history: int) -> list[int]:
        """The frames that an input with `history` frames before its newest may end at."""
        return self.timeline.usable(history)

    def steps(self, index: int, count: int, frames: bool = True) -> list[Step]:
        """The `count` steps up to frame `index`, oldest first, as in a live run.

        frames: False reads flow alone, and leaves the planes of the frames empty. Raises IndexError
        if there are not so many steps without a gap.
        """
        first = index - count + 1
        if not (index < len(self) and self.timeline.begin(index) <= first <= index):
            raise IndexError(f"{self.clip.name}: no {count} frames end at frame {index}")
        return self.steps_at(range(first, index + 1), frames)

    def steps_at(self, indices: Iterable[int], frames: bool = True) -> list[Step]:
        """The steps of these frames. frames: as for `steps`."""
        rows = self._open_frames() if frames else None
        flows = {
            spec: open_rows(self.folder / flow_file(spec), (2, *self.size_hw))
            for spec in self.motions
        }
        return [
            Step(
                self._unpack(rows[at], at) if rows is not None else self._blank(at),
                {spec: flow[at - 1] for spec, flow in flows.items()} if at else {},
            )
            for at in indices
        ]

    def _open_frames(self) -> Rows:
        return open_rows(self.folder / _FRAMES, _packed(self.size_hw))

    def _unpack(self, packed: Bytes, index: int) -> Frame:
        return unpack_i420(packed, self.size_hw, self.times_s[index], index, self.matrix)

    def _blank(self, index: int) -> Frame:
        return Frame(_NO_PLANE, _NO_PLANE, _NO_PLANE, self.times_s[index], index, self.matrix)


@dataclass(frozen=True, slots=True)
class Unusable:
    """A clip that cannot be read or is too short, and why."""

    clip: Clip
    reason: str


@dataclass(frozen=True, slots=True)
class _Missing:
    """A clip that is not in the cache, or a part of it is not. frames: those that are there."""

    clip: Clip
    frames: CachedClip | None


class ClipCache:
    """The cache for one geometry and some motion methods."""

    def __init__(
        self, root: Path, geometry: Geometry, interval_s: float, motions: Sequence[Spec] = ()
    ) -> None:
        """interval_s: between frames of an input; those that come much sooner are left out."""
        self.geometry, self.motions, self._interval_s = geometry, tuple(motions), interval_s
        self.root = root / _digest([_FORMAT, geometry.model_dump(mode="json"), interval_s])
        self._hashes = ContentHashes(root)

    def fill(
        self, clips: Iterable[Clip], workers: int, history: int
    ) -> Iterator[CachedClip | Unusable]:
        """Every clip, computed if it is not in the cache yet, in the order of `clips`.

        history: frames before the newest that an input needs. Clips that are too short for one or
        cannot be read come as such. Raises DataError if the cache has no room or cannot be written.
        """
        for found in self._fill(clips, workers):
            reason = None
            if isinstance(found, CachedClip):
                reason = found.timeline.fault(history)
            fault = f"{found.clip.path}: {reason}"
            yield found if reason is None else Unusable(found.clip, fault)

    def _fill(self, clips: Iterable[Clip], workers: int) -> Iterator[CachedClip | Unusable]:
        clips = list(clips)
        found = [self._load(clip) for clip in clips]  # once: the workers fill it meanwhile
        missing = [part for part in found if isinstance(part, _Missing)]
        compressed = needs_compression(self.root.parent, self._room(missing, workers))
        make = partial(self._make, compressed=compressed)
        absent = [part.clip for part in missing]
        if len(absent) > 1 and workers > 1:
            with closing(self._make_apart(make, absent, workers)) as made:
                yield from (next(made) if isinstance(part, _Missing) else part for part in found)
        else:
            made_here = map(make, absent)
            yield from (next(made_here) if isinstance(part, _Missing) else part for part in found)

    def _room(self, missing: Sequence[_Missing], workers: int) -> Room:
        """About how much room what is missing will take."""
        height, width = self.geometry.size_hw
        unread = [part.clip for part in missing if part.frames is None]
        frames = expected_frames(unread, self._interval_s, workers)
        pairs = frames * len(self.motions)
        for part in missing:
            if part.frames is not None:
                lacking = [spec for spec in self.motions if not self._has_flow(part.frames, spec)]
                pairs += len(part.frames) * len(lacking)
        return Room(frames * height * width * 3 // 2, pairs * 2 * height * width)

    def _make_apart(
        self, make: Callable[[Clip], CachedClip | Unusable], clips: list[Clip], workers: int
    ) -> Generator[CachedClip | Unusable]:
        """Each clip as `make` gives it; one whose process dies comes as unusable."""
        for clip, made in zip(clips, map_apart(make, clips, workers), strict=True):
            if isinstance(made, Death):
                for folder in self.root.glob(f"*.{made.process}.part"):
                    shutil.rmtree(folder, ignore_errors=True)
                for file in self.root.glob(f"*/*.{made.process}-*.part"):  # flow, see write_atomic
                    file.unlink(missing_ok=True)
                yield Unusable(clip, f"{clip.path}: {made.reason}")
            else:
                yield made

    def _load(self, clip: Clip) -> CachedClip | Unusable | _Missing:
        """A clip with all its flow, if no part of it is missing or damaged."""
        try:
            sha256 = self._hashes.of(clip.path)
        except SourceError as error:
            return Unusable(clip, str(error))
        except OSError as error:
            return Unusable(clip, f"{error.filename or clip.path}: {error.strerror}")
        cached = self._load_frames(clip, sha256)
        if cached is None or any(not self._has_flow(cached, spec) for spec in self.motions):
            return _Missing(clip, cached)
        return cached

    def _load_frames(self, clip: Clip, sha256: str) -> CachedClip | None:
        folder, size_hw = self.root / sha256, self.geometry.size_hw
        try:
            entry = json.loads((folder / _NOTE).read_text(encoding="utf-8"))
            timeline = Timeline(tuple(entry["times_s"]), tuple(entry["gaps"]))
            matrix = entry["matrix"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not holds(folder / _FRAMES, len(timeline.times_s), _packed(size_hw)):
            return None
        return CachedClip(clip, size_hw, timeline, matrix, folder, sha256, self.motions)

    def _has_flow(self, cached: CachedClip, spec: Spec) -> bool:
        return holds(cached.folder / flow_file(spec), len(cached) - 1, (2, *cached.size_hw))

    def _make(self, clip: Clip, compressed: bool) -> CachedClip | Unusable:
        try:
            sha256 = self._hashes.of(clip.path)
            cached = self._load_frames(clip, sha256)
            cached = cached or self._make_frames(clip, sha256, compressed)
            for spec in self.motions:
                if not self._has_flow(cached, spec):
                    self._make_flow(cached, spec, compressed)
        except DataError as error:
            return Unusable(clip, str(error))
        except OSError as error:
            raise DataError(
                f"{self.root}: cannot be written ({why(error)}); give another --cache"
            ) from None
        return cached

    def _make_flow(self, cached: CachedClip, spec: Spec, compressed: bool) -> None:
        """Write the flow of a clip. Raises DataError if it has none of this kind."""
        name, width_px = cached.folder / flow_file(spec), cached.size_hw[1]
        with write_rows(name, (2, *cached.size_hw), width_px, compressed) as out:
            for flow in self._flows(cached, spec):
                out.append(flow)

    def _flows(self, cached: CachedClip, spec: Spec) -> Iterator[FlowBytes]:
        """Computed from the cached frames, which are the same as in a live run; motion vectors are
        not cached, and decoded again; published flow is read."""
        if isinstance(spec, PublishedSpec):
            yield from published_flows(cached.clip, self.geometry, cached.times_s, spec)
            return
        frames = cached.frames()
        if need_vectors([spec]):
            frames = self._frames(cached.clip, vectors=True)
        motion = open_motion(spec, cached.size_hw)
        for previous, current in pairwise(frames):
            yield motion(previous, current)

    def _frames(
        self, clip: Clip, vectors: bool = False, pacer: Pacer | None = None
    ) -> Iterator[Frame]:
        """The frames of a clip that are used, resized. pacer: chooses them; None: a new one."""
        pacer = pacer or Pacer(self._interval_s)
        for frame in read_frames(clip.path, vectors):
            if pacer.take(frame):
                yield resize_to_model(frame, self.geometry)

    def _make_frames(self, clip: Clip, sha256: str, compressed: bool) -> CachedClip:
        """Decode a clip into its own folder. Raises DataError if it cannot be used."""
        folder = self.root / sha256
        partial = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            make_private(partial)
            self._decode(clip, partial, compressed)
            self._put(clip, partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        made = self._load_frames(clip, sha256)
        assert made is not None
        return made

    def _put(self, clip: Clip, partial: Path, folder: Path) -> None:
        """Rename a finished folder. One that another process has made meanwhile, of a clip with the
        same content, stays: flow may be measured beside it already. A damaged one is replaced."""
        for _ in range(3):
            try:
                partial.rename(folder)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            if self._load_frames(clip, folder.name) is not None:
                return
            shutil.rmtree(folder, ignore_errors=True)

    def _decode(self, clip: Clip, folder: Path, compressed: bool) -> None:
        pacer = Pacer(self._interval_s)
        matrix: Matrix = "bt601"
        size_hw = self.geometry.size_hw
        with write_rows(folder / _FRAMES, _packed(size_hw), size_hw[1], compressed) as out:
            for frame in self._frames(clip, pacer=pacer):
                out.append(pack_i420(frame))
                matrix = frame.matrix
        entry = {"matrix": matrix} | asdict(pacer.timeline())
        with write_atomic(folder / _NOTE) as file:
            file.write(json.dumps(entry).encode())


def flow_file(spec: Spec) -> str:
    """The name of the file with the flow of a motion method, without its ending."""
    return f"flow-{_digest(spec.model_dump(mode='json', by_alias=True))}"


def _packed(size_hw: tuple[int, int]) -> tuple[int]:
    """The shape of a frame's planes in a row."""
    return (size_hw[0] * size_hw[1] * 3 // 2,)


def _digest(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def replace_folder(partial: Path, folder: Path) -> None:
    """Rename a finished folder; if two runs compute the same clip, the last one wins."""
    for _ in range(3):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            partial.rename(folder)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    shutil.rmtree(partial)  # the other one is as good


def open_cache(root: Path, *specs: NetworkSpec) -> ClipCache:
    """The cache for the inputs of these networks, which share geometry and interval."""
    inputs = [spec.input for spec in specs]
    return ClipCache(root, specs[0].geometry, inputs[0].interval_s, motions_of(inputs))


def fill_cache(store: ClipCache, clips: list[Clip], history: int) -> list[CachedClip]:
    """The clips' cached frames and flow, with a progress bar while they are computed.

    history: as for `fill`. Clips that cannot be used are left out and told. Raises DataError if
    the disk has no room for them, or a class has none left.
    """
    found = store.fill(clips, os.cpu_count() or 1, history)
    shown = list(track(found, "frames and flow", total=len(clips)))
    usable = [clip for clip in shown if isinstance(clip, CachedClip)]
    unusable = [clip for clip in shown if isinstance(clip, Unusable)]
    if unusable:
        count = f"{len(unusable)} of {len(clips)}"
        logger.warning("%s clips cannot be used and are left out; see: twostream data check", count)
        for one in unusable[:SHOWN]:
            logger.warning("left out: %s", one.reason)
    lost = {one.clip.label for one in unusable} - {clip.clip.label for clip in usable}
    if lost:
        first = next(one for one in unusable if one.clip.label == min(lost))
        raise DataError(f"no clip of {', '.join(sorted(lost))} can be used; {first.reason}")
    return usable
