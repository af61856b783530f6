"""Resized frames and their flow, computed once a clip and kept without loss.

    CACHE/<hash of geometry, flow and this format>/<Class>/<clip>-<hash of its name>/
        frames.npy, flow.npy, clip.json

frames.npy: (T, 3/2 H W) uint8, the I420 planes of each resized frame; flow.npy: (T-1, 2, H, W)
uint8. Both are memory-mapped, so a stack costs what it reads. The hash makes frames of another
geometry or flow another cache: they can never be mixed up.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.bundle.network import NetworkSpec
from edge.errors import DataError
from edge.files import make_private, why, write_atomic
from edge.motion.preprocessor import Preprocessor
from edge.motion.spec import FlowSpec
from edge.motion.stack import FlowBytes
from edge.terminal import track
from edge.video.frames import Frame, Geometry, Matrix, pack_i420, unpack_i420
from edge.video.image_folder import list_images
from train.data.clips import Clip
from train.data.decode import read_frames

logger = logging.getLogger(__name__)

SHOWN = 5  # clips that cannot be used, by name; the others are counted
STACK = 10  # flows a stack: Simonyan and Zisserman's L, and what all peers use


@dataclass(frozen=True)
class CachedClip:
    """One clip, ready to sample. Frame t is reached by flow t-1; frame 0 by none."""

    clip: Clip
    size_hw: tuple[int, int]
    times_s: tuple[float, ...]
    matrix: Matrix
    folder: Path
    sha256: str  # of the video, or of all pictures one after another

    def __len__(self) -> int:
        return len(self.times_s)

    def frame(self, index: int) -> Frame:
        """Frame `index` at the model's size."""
        packed = np.load(self.folder / "frames.npy", mmap_mode="r")[index]
        return unpack_i420(np.array(packed), self.size_hw, self.times_s[index], index, self.matrix)

    def stack(self, index: int, length: int) -> NDArray[np.uint8]:
        """The `length` flows up to frame `index`, (L, 2, H, W), oldest first. index >= length."""
        if not length <= index < len(self):
            raise IndexError(f"{self.clip.name}: no stack of {length} flows ends at frame {index}")
        return np.array(np.load(self.folder / "flow.npy", mmap_mode="r")[index - length : index])


@dataclass(frozen=True, slots=True)
class Unusable:
    """A clip that cannot be read or is too short, and why."""

    clip: Clip
    reason: str


class ClipCache:
    """The cache for one geometry and one flow."""

    def __init__(self, root: Path, geometry: Geometry, flow: FlowSpec) -> None:
        key = json.dumps([3, geometry.model_dump(), flow.model_dump()], sort_keys=True)
        self.geometry, self.flow = geometry, flow
        self.root = root / hashlib.sha256(key.encode()).hexdigest()[:16]

    def fill(self, clips: Iterable[Clip], workers: int) -> Iterator[CachedClip | Unusable]:
        """Every clip, computed where it is not in the cache yet, in the order of `clips`; those
        that cannot be used come as such. Raises DataError where the cache cannot be written.
        """
        clips = list(clips)
        found = [self._load(clip) for clip in clips]  # once: the workers fill it meanwhile
        missing = [clip for clip, cached in zip(clips, found, strict=True) if cached is None]
        if missing and workers > 1:
            with ProcessPoolExecutor(workers) as pool:
                made = pool.map(self._make, missing)
                yield from (next(made) if cached is None else cached for cached in found)
        else:
            made = map(self._make, missing)
            yield from (next(made) if cached is None else cached for cached in found)

    def _folder(self, clip: Clip) -> Path:
        digest = hashlib.sha256(clip.name.encode()).hexdigest()[:8]
        return self.root / clip.label / f"{clip.path.stem}-{digest}"

    def _load(self, clip: Clip) -> CachedClip | None:
        note = self._folder(clip) / "clip.json"
        if not note.is_file():
            return None
        entry = json.loads(note.read_text())
        if entry["bytes"] != sum(file.stat().st_size for file in _files(clip)):
            return None
        times = tuple(entry["times_s"])
        size_hw, matrix = self.geometry.size_hw, entry["matrix"]
        return CachedClip(clip, size_hw, times, matrix, note.parent, entry["sha256"])

    def _make(self, clip: Clip) -> CachedClip | Unusable:
        folder = self._folder(clip)
        partial = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            make_private(partial)
            self._analyse(clip, partial)
            replace_folder(partial, folder)
        except DataError as error:
            return Unusable(clip, str(error))
        except OSError as error:
            raise DataError(
                f"{self.root}: cannot be written ({why(error)}); give another --cache"
            ) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        made = self._load(clip)
        assert made is not None
        return made

    def _analyse(self, clip: Clip, folder: Path) -> None:
        """Write a clip's files. Raises DataError where it cannot be used."""
        preprocessor = Preprocessor(self.geometry, self.flow)
        frames: list[NDArray[np.uint8]] = []
        flows: list[FlowBytes] = []
        times: list[float] = []
        matrix: Matrix = "bt601"
        for frame in read_frames(clip.path):
            step = preprocessor.push(frame)
            frames.append(pack_i420(step.frame))
            times.append(frame.time_s)
            matrix = frame.matrix
            if step.flow is not None:
                flows.append(step.flow)
        if len(frames) <= STACK:
            raise DataError(
                f"{clip.path}: {len(frames)} frames; a stack of {STACK} flows needs {STACK + 1}"
            )
        for name, planes in (("frames.npy", frames), ("flow.npy", flows)):
            with write_atomic(folder / name) as file:
                np.save(file, np.stack(planes))
        size, digest = _content(clip)
        entry = {"bytes": size, "times_s": times, "matrix": matrix, "sha256": digest}
        with write_atomic(folder / "clip.json") as file:
            file.write(json.dumps(entry).encode())


def _files(clip: Clip) -> list[Path]:
    return list_images(clip.path) if clip.path.is_dir() else [clip.path]


def _content(clip: Clip) -> tuple[int, str]:
    """(bytes, SHA-256) of a clip's files."""
    size, digest = 0, hashlib.sha256()
    for file in _files(clip):
        content = file.read_bytes()
        size += len(content)
        digest.update(content)
    return size, digest.hexdigest()


def replace_folder(partial: Path, folder: Path) -> None:
    """Give a finished folder its name; of two that make the same clip at once the last wins."""
    for _ in range(3):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            partial.rename(folder)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    shutil.rmtree(partial)  # the other one is as good


def open_cache(root: Path, spec: NetworkSpec) -> ClipCache:
    return ClipCache(root, spec.geometry, spec.flow)


def fill_cache(store: ClipCache, clips: list[Clip]) -> list[CachedClip]:
    """The clips' cached frames and flow, with a progress bar while they are computed.

    Clips that cannot be used are left out and told. Raises DataError where a class has none left.
    """
    found = store.fill(clips, workers=os.cpu_count() or 1)
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
