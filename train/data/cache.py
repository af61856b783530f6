"""The cache of resized frames and their flow, computed once per clip and stored losslessly.

    CACHE/<hash of geometry and format>/<hash of the clip's files>/
        frames.npy, clip.json               the frames, whatever is measured on them
        flow-<hash of motion>.npy           of each method of motion that was asked for
    CACHE/content/                          hashes of files, see content.py

frames.npy: (T, 3/2 H W) uint8, the I420 planes of each resized frame; flow-*.npy: (T-1, 2, H, W)
uint8, measured on these frames, or of the motion vectors that the video has for them. All are
memory-mapped, so an input costs what it reads. The hashes make frames of another geometry another
cache and flow of another kind another file, and clips are known by what is in them: they can never
be mixed up, and frames are decoded once for all of them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from edge.bundle.network import NetworkSpec
from edge.errors import DataError, SourceError
from edge.files import make_private, why, write_atomic
from edge.inputs.builder import motions_of
from edge.motion.method import need_vectors, open_motion
from edge.motion.preprocessor import Step
from edge.spec import Spec
from edge.terminal import track
from edge.video.frames import Frame, Geometry, Matrix, pack_i420, resize_to_model, unpack_i420
from edge.video.isolation import Death, map_apart
from train.data.cache_size import expected_frames
from train.data.clips import Clip
from train.data.content import ContentHashes
from train.data.decode import read_frames
from train.data.timeline import Pacer, Timeline

logger = logging.getLogger(__name__)

_ROOM_SAID = 10**9  # bytes from which on the need of room is said
SHOWN = 5  # clips that cannot be used, by name; the others are counted
_FORMAT = 6
_FRAMES, _NOTE = "frames.npy", "clip.json"


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
        """Frame `index` at the model's size; its planes are read from disk on first use."""
        return self._unpack(_open_rows(self.folder / _FRAMES), index)

    def usable(self, history: int) -> list[int]:
        """The frames that an input with `history` frames before its newest may end at."""
        return self.timeline.usable(history)

    def steps(self, index: int, count: int) -> list[Step]:
        """The `count` steps up to frame `index`, oldest first, as in a live run.
        Raises IndexError if there are not so many without a gap."""
        first = index - count + 1
        if not 0 <= first <= index < len(self) or any(
            first < gap <= index for gap in self.timeline.gaps
        ):
            raise IndexError(f"{self.clip.name}: no {count} frames end at frame {index}")
        frames = _open_rows(self.folder / _FRAMES)
        flows = {spec: _open_rows(self.folder / flow_file(spec)) for spec in self.motions}
        return [
            Step(
                self._unpack(frames, at),
                {spec: rows[at - 1] for spec, rows in flows.items()} if at else {},
            )
            for at in range(first, index + 1)
        ]

    def _unpack(self, frames: NDArray[np.uint8], index: int) -> Frame:
        return unpack_i420(frames[index], self.size_hw, self.times_s[index], index, self.matrix)


@dataclass(frozen=True, slots=True)
class Unusable:
    """A clip that cannot be read or is too short, and why."""

    clip: Clip
    reason: str


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
        cannot be read come as such. Raises DataError if the cache cannot be written.
        """
        for found in self._fill(clips, workers):
            reason = None
            if isinstance(found, CachedClip):
                reason = found.timeline.fault(history)
            fault = f"{found.clip.path}: {reason}"
            yield found if reason is None else Unusable(found.clip, fault)

    def expected_bytes(self, clips: Sequence[Clip], workers: int) -> int:
        """About how much room the clips that are not in the cache yet will take."""
        missing = [clip for clip in clips if self._load(clip) is None]
        height, width = self.geometry.size_hw
        frame = height * width * 3 // 2 + len(self.motions) * 2 * height * width
        return frame * expected_frames(missing, self._interval_s, workers)

    def _fill(self, clips: Iterable[Clip], workers: int) -> Iterator[CachedClip | Unusable]:
        clips = list(clips)
        found = [self._load(clip) for clip in clips]  # once: the workers fill it meanwhile
        missing = [clip for clip, cached in zip(clips, found, strict=True) if cached is None]
        if len(missing) > 1 and workers > 1:
            with closing(self._make_apart(missing, workers)) as made:
                yield from (next(made) if cached is None else cached for cached in found)
        else:
            made_here = map(self._make, missing)
            yield from (next(made_here) if cached is None else cached for cached in found)

    def _make_apart(self, clips: list[Clip], workers: int) -> Generator[CachedClip | Unusable]:
        """Each clip as `_make` gives it; one whose process dies comes as unusable."""
        for clip, made in zip(clips, map_apart(self._make, clips, workers), strict=True):
            if isinstance(made, Death):
                for partial in self.root.glob(f"*.{made.process}.part"):
                    shutil.rmtree(partial, ignore_errors=True)
                yield Unusable(clip, f"{clip.path}: {made.reason}")
            else:
                yield made

    def _load(self, clip: Clip) -> CachedClip | Unusable | None:
        """A clip with all its flow; None if a part is missing or damaged."""
        try:
            sha256 = self._hashes.of(clip.path)
        except SourceError as error:
            return Unusable(clip, str(error))
        except OSError as error:
            return Unusable(clip, f"{error.filename or clip.path}: {error.strerror}")
        cached = self._load_frames(clip, sha256)
        if cached is None or any(not self._has_flow(cached, spec) for spec in self.motions):
            return None
        return cached

    def _load_frames(self, clip: Clip, sha256: str) -> CachedClip | None:
        folder, (height, width) = self.root / sha256, self.geometry.size_hw
        try:
            entry = json.loads((folder / _NOTE).read_text(encoding="utf-8"))
            timeline = Timeline(tuple(entry["times_s"]), tuple(entry["gaps"]))
            matrix = entry["matrix"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not _holds(folder / _FRAMES, (len(timeline.times_s), height * width * 3 // 2)):
            return None
        return CachedClip(clip, (height, width), timeline, matrix, folder, sha256, self.motions)

    def _has_flow(self, cached: CachedClip, spec: Spec) -> bool:
        return _holds(cached.folder / flow_file(spec), (len(cached) - 1, 2, *cached.size_hw))

    def _make(self, clip: Clip) -> CachedClip | Unusable:
        try:
            sha256 = self._hashes.of(clip.path)
            cached = self._load_frames(clip, sha256) or self._make_frames(clip, sha256)
            for spec in self.motions:
                if not self._has_flow(cached, spec):
                    self._make_flow(cached, spec)
        except DataError as error:
            return Unusable(clip, str(error))
        except OSError as error:
            raise DataError(
                f"{self.root}: cannot be written ({why(error)}); give another --cache"
            ) from None
        return cached

    def _make_flow(self, cached: CachedClip, spec: Spec) -> None:
        """Compute the flow of a clip from its cached frames, which are the same as in a live run;
        motion vectors are not cached, and decoded again. Raises DataError if there are none."""
        frames: Iterator[Frame] = (cached.frame(index) for index in range(len(cached)))
        if need_vectors([spec]):
            frames = self._frames(cached.clip, vectors=True)
        motion = open_motion(spec, cached.size_hw)
        with (
            write_atomic(cached.folder / flow_file(spec)) as file,
            _Rows(file, (2, *cached.size_hw)) as out,
        ):
            for previous, current in pairwise(frames):
                out.append(motion(previous, current))

    def _frames(
        self, clip: Clip, vectors: bool = False, pacer: Pacer | None = None
    ) -> Iterator[Frame]:
        """The frames of a clip that are used, resized. pacer: chooses them; None: a new one."""
        pacer = pacer or Pacer(self._interval_s)
        for frame in read_frames(clip.path, vectors):
            if pacer.take(frame):
                yield resize_to_model(frame, self.geometry)

    def _make_frames(self, clip: Clip, sha256: str) -> CachedClip:
        """Decode a clip into its own folder. Raises DataError if it cannot be used."""
        folder = self.root / sha256
        partial = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            make_private(partial)
            self._decode(clip, partial)
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

    def _decode(self, clip: Clip, folder: Path) -> None:
        pacer = Pacer(self._interval_s)
        matrix: Matrix = "bt601"
        height, width = self.geometry.size_hw
        with write_atomic(folder / _FRAMES) as file, _Rows(file, (height * width * 3 // 2,)) as out:
            for frame in self._frames(clip, pacer=pacer):
                out.append(pack_i420(frame))
                matrix = frame.matrix
        entry = {"matrix": matrix} | asdict(pacer.timeline())
        with write_atomic(folder / _NOTE) as file:
            file.write(json.dumps(entry).encode())


def flow_file(spec: Spec) -> str:
    """The name of the file with the flow of a motion method."""
    return f"flow-{_digest(spec.model_dump(mode='json', by_alias=True))}.npy"


class _Rows:
    """Writes a .npy of bytes row by row, so that a clip need not fit into memory."""

    def __init__(self, file: IO[bytes], shape: tuple[int, ...]) -> None:
        self._file, self._shape, self._count = file, shape, 0

    def __enter__(self) -> _Rows:
        self._write_header()
        self._start = self._file.tell()
        return self

    def append(self, row: NDArray[np.uint8]) -> None:
        self._file.write(np.ascontiguousarray(row).tobytes())
        self._count += 1

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._file.seek(0)
            self._write_header()
            # numpy leaves room in the header for a longer first axis
            assert self._file.tell() == self._start
            self._file.seek(0, os.SEEK_END)

    def _write_header(self) -> None:
        shape = (self._count, *self._shape)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)  # type: ignore[arg-type]


def _open_rows(file: Path) -> NDArray[np.uint8]:
    """A memory-mapped .npy; changes in memory do not reach the file."""
    return np.asarray(np.load(file, mmap_mode="c"))


def _holds(file: Path, shape: tuple[int, ...]) -> bool:
    """Whether a file is complete, with bytes of that shape."""
    try:
        rows = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return rows.shape == shape and rows.dtype == np.uint8


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
    workers = os.cpu_count() or 1
    _check_room(store, clips, workers)
    found = store.fill(clips, workers, history)
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


def _check_room(store: ClipCache, clips: Sequence[Clip], workers: int) -> None:
    needed = store.expected_bytes(clips, workers)
    there = next(folder for folder in (store.root, *store.root.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise DataError(
            f"{store.root.parent}: the frames and flow of these clips need about "
            f"{needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; give another --cache, or train "
            "on fewer --classes"
        )
    if needed >= _ROOM_SAID:
        logger.info(
            "frames and flow will take about %.0f GB in %s, where %.0f GB are free",
            needed / 1e9,
            store.root.parent,
            free / 1e9,
        )
