"""The engines of a bundle, in a folder of the user's cache.

    STREAM-KEY.plan     an engine; KEY is the digest of its EngineKey
    STREAM-KEY.json     its description: stream, key, sha256 of the plan, layers, notes
    STREAM-KEY.failed   why TensorRT could not build this engine; FP16 is used instead
    timing-DEVICE.bin   measurements of earlier builds, per TensorRT version and GPU
    tuning-DEVICE.json  what `twostream build` chose for this device (see tuning.py)

Files are replaced atomically, an engine's description after its plan, and the sha256 is checked on
every read. Storing an engine deletes the oldest ones of its stream, so that KEPT remain.

An engine is, in effect, machine code. Only `store` adds engines to a folder, on the device that
runs them, and no other user can write there. Engines in a bundle are never read.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from edge.devices.tensorrt.builder import BuiltEngine
from edge.devices.tensorrt.key import EngineKey
from edge.devices.tensorrt.layers import LayerPrecision
from edge.files import TEMPORARY, make_private, write_atomic
from edge.spec import Spec

KEPT = 6  # engines of one stream: three precisions, two DLA cores, one to spare
FAILED = ".failed"
MAX_DESCRIPTION_BYTES = 1 << 24
MAX_PLAN_BYTES = 1 << 31
MAX_TIMINGS_BYTES = 1 << 28
ABANDONED_S = 3600.0  # the process that wrote an older temporary file has died
_SHA256_BYTES = 32


class _Description(Spec):
    """Everything in STREAM-KEY.json; no field has a default."""

    schema_version: Literal[1]
    stream: str
    key: EngineKey
    plan_sha256: str
    summary: dict[str, int]  # "int8 CaskConvolution" -> how many, for people
    layers: list[tuple[str, str, str]]
    notes: list[str]


class _Failure(Spec):
    """Everything in STREAM-KEY.failed; no field has a default."""

    schema_version: Literal[1]
    stream: str
    key: EngineKey
    reason: str


@dataclass(frozen=True, slots=True)
class StoredEngine:
    """plan: the serialized engine. notes: warnings from its build, one line each."""

    plan: bytes
    layers: tuple[LayerPrecision, ...]
    notes: tuple[str, ...]


class EngineCache:
    """The engines of one bundle. The folder is created when an engine is stored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, stream: str, key: EngineKey) -> StoredEngine | str:
        """The engine of a stream, or why it cannot be used, as a clause for a message."""
        path = self._path(stream, key)
        if not path.exists() and not path.with_suffix(".json").exists():
            return self._nearest(stream, key)
        description = _read_description(path.with_suffix(".json"))
        if isinstance(description, str):
            return description
        if description.stream != stream:
            return f"{path.name} belongs to the {description.stream} stream"
        if differences := key.differences(description.key):
            return f"{path.name} is for another device or network: {'; '.join(differences)}"
        plan = _read(path, MAX_PLAN_BYTES)
        if plan is None:
            return f"{path.name} is missing or cannot be read"
        if hashlib.sha256(plan).hexdigest() != description.plan_sha256:
            return f"{path.name} is truncated or damaged ({len(plan)} bytes)"
        layers = tuple(LayerPrecision(*layer) for layer in description.layers)
        return StoredEngine(plan, layers, tuple(description.notes))

    def store(self, stream: str, key: EngineKey, built: BuiltEngine) -> None:
        """Store an engine and the measurements of its build. Raises OSError if it cannot be
        written."""
        make_private(self.folder)
        path = self._path(stream, key)
        description = _Description(
            schema_version=1,
            stream=stream,
            key=key,
            plan_sha256=hashlib.sha256(built.plan).hexdigest(),
            summary=dict(Counter(f"{layer.precision} {layer.kind}" for layer in built.layers)),
            layers=[(layer.name, layer.kind, layer.precision) for layer in built.layers],
            notes=list(built.notes),
        )
        with write_atomic(path) as file:
            file.write(built.plan)
        with write_atomic(path.with_suffix(".json")) as file:
            file.write(description.model_dump_json(indent=1).encode())
        timings = built.timing_cache
        with write_atomic(self._timings_path(key)) as file:
            file.write(hashlib.sha256(timings).digest() + timings)
        self._delete_old(stream, path)

    def failure(self, stream: str, key: EngineKey) -> str | None:
        """Why this engine could not be built, by an earlier `store_failure`, else None."""
        data = _read(self._path(stream, key).with_suffix(FAILED), MAX_DESCRIPTION_BYTES)
        try:
            failure = _Failure.model_validate_json(data or b"")
        except ValidationError:
            return None  # it is tried again
        return failure.reason if (failure.stream, failure.key) == (stream, key) else None

    def store_failure(self, stream: str, key: EngineKey, reason: str) -> None:
        """Remember that this engine cannot be built. Raises OSError if that cannot be written."""
        make_private(self.folder)
        failure = _Failure(schema_version=1, stream=stream, key=key, reason=reason)
        with write_atomic(self._path(stream, key).with_suffix(FAILED)) as file:
            file.write(failure.model_dump_json(indent=1).encode())

    def forget_failures(self) -> None:
        """Let engines that could not be built be tried again."""
        for file in self._files(f"*{FAILED}"):
            file.unlink(missing_ok=True)

    def timings(self, key: EngineKey) -> bytes:
        """The measurements of earlier builds on this device; b"" if there are no valid ones."""
        data = _read(self._timings_path(key), MAX_TIMINGS_BYTES) or b""
        digest, timings = data[:_SHA256_BYTES], data[_SHA256_BYTES:]
        return timings if hashlib.sha256(timings).digest() == digest else b""

    def _path(self, stream: str, key: EngineKey) -> Path:
        return self.folder / f"{stream}-{key.digest()}.plan"

    def _timings_path(self, key: EngineKey) -> Path:
        return self.folder / f"timing-{key.device_digest()}.bin"

    def _nearest(self, stream: str, key: EngineKey) -> str:
        """Why no engine matches: how the most similar one of this stream differs."""
        descriptions = (_read_description(file) for file in self._files(f"{stream}-*.json"))
        keys = [d.key for d in descriptions if isinstance(d, _Description) and d.stream == stream]
        if not keys:
            return "there is no engine yet"
        nearest = min((key.differences(other) for other in keys), key=len)
        return f"there is none for {'; '.join(nearest)}"

    def _files(self, pattern: str) -> list[Path]:
        """The files that match a pattern, newest first."""
        dated = []
        for file in self.folder.glob(pattern):
            try:
                dated.append((file.stat().st_mtime_ns, file.name, file))
            except OSError:
                continue  # another process has just deleted it
        return [file for _, _, file in sorted(dated, reverse=True)]

    def _delete_old(self, stream: str, stored: Path) -> None:
        """Keep `stored` and the newest others; delete abandoned temporary files."""
        others = [file for file in self._files(f"{stream}-*.plan") if file != stored]
        old = others[KEPT - 1 :] + self._files("timing-*.bin")[KEPT:]
        old += self._files(f"{stream}-*{FAILED}")[KEPT:]
        old += [f for f in self._files(f"*{TEMPORARY}") if _age_s(f) > ABANDONED_S]
        for file in old:
            file.unlink(missing_ok=True)
            if file.suffix == ".plan":
                file.with_suffix(".json").unlink(missing_ok=True)


def _age_s(file: Path) -> float:
    try:
        return time.time() - file.stat().st_mtime
    except OSError:
        return 0.0


def _read(file: Path, limit: int) -> bytes | None:
    """The content of a regular file of at most `limit` bytes; None if it is anything else."""
    try:
        if file.is_symlink() or not file.is_file() or file.stat().st_size > limit:
            return None
        return file.read_bytes()
    except OSError:
        return None


def _read_description(file: Path) -> _Description | str:
    """The description, or why it cannot be used, as a clause for a message."""
    data = _read(file, MAX_DESCRIPTION_BYTES)
    if data is None:
        return f"{file.name} is missing or cannot be read"
    try:
        return _Description.model_validate_json(data)
    except ValidationError:
        return f"{file.name} does not describe an engine"
