"""The folders of events: DIR/2026-11-30/181210-yard-Diving-ID/, each whole or not there.

A folder is written as a hidden one beside it, brought to the disk and renamed. While it is written
it is locked; what a killed run leaves has no lock, and the next run removes it. Times in names are
UTC, and those of the id.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from edge.errors import OutputError
from edge.files import why
from edge.outputs.part_file import check_room

CLIP, PICTURE, RECORD = "clip.mp4", "picture.jpg", "event.json"
_PART = ".part"
_WRITTEN_KEPT = 200  # ids
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_ID = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
_NAME = re.compile(rf"\d{{6}}-[\w-]+-{_ID}", re.ASCII)
EVENT_ID = re.compile(_ID)
_ID_LENGTH = 36

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """keep_bytes: the oldest events are deleted above this total size; keep_s: events older than
    this are deleted; None: never."""

    keep_bytes: int | None = None
    keep_s: float | None = None


@dataclass
class EventStore:
    """The folder DIR. `open` comes first; `find` is thread-safe. written: the ids of this run's
    last events, in order."""

    path: Path
    limits: Limits = Limits()
    written: dict[str, None] = field(default_factory=dict, repr=False, compare=False)
    _warned: set[Path] = field(default_factory=set, repr=False, compare=False)

    def open(self) -> None:
        """Create the folder and remove what killed runs have left. Raises OutputError."""
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as fault:
            raise OutputError(f"--events {self.path}: {why(fault)}") from None
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise OutputError(
                f"--events {self.path}: Permission denied; choose a folder that you may write to"
            )
        check_room(self.path / CLIP)
        for day in self._days():
            for entry in _folders(day):
                if entry.name.startswith(".") and entry.name.endswith(_PART):
                    _remove_unlocked(entry)
            _remove_if_empty(day)

    @contextmanager
    def writing(self, slug: str, action: str, event_id: str) -> Iterator[Path]:
        """with store.writing("yard", "Diving", id) as folder: fill the folder

        At the end of the block its files are brought to the disk and it gets its name; if the block
        raises, nothing is left of it. Raises OutputError.
        """
        moment = time_of(event_id)
        day = self.path / moment.strftime("%Y-%m-%d")
        name = f"{moment.strftime('%H%M%S')}-{slug}-{_in_a_name(action)}-{event_id}"
        part = day / f".{name}{_PART}"
        try:
            check_room(self.path / CLIP)
            day.mkdir(exist_ok=True)
            part.mkdir()
            with _locked(part):
                try:
                    yield part
                    for file in part.iterdir():
                        _sync(file)
                    _sync(part)
                    part.rename(day / name)
                except BaseException:
                    shutil.rmtree(part, ignore_errors=True)
                    raise
            _sync(day)
            self.written[event_id] = None
            if len(self.written) > _WRITTEN_KEPT:
                del self.written[next(iter(self.written))]
        except OSError as fault:
            raise OutputError(f"{day / name}: cannot be written ({why(fault)})") from None

    def find(self, event_id: str) -> Path | None:
        """The folder of an event; None: it was not written, or has been deleted. event_id: any
        text."""
        if not EVENT_ID.fullmatch(event_id):
            return None
        with suppress(OSError, ValueError, OverflowError):
            day = self.path / time_of(event_id).strftime("%Y-%m-%d")
            for name in os.listdir(day):
                if name.endswith(event_id) and _NAME.fullmatch(name) and _is_folder(day / name):
                    return day / name
        return None

    def newest(self, count: int, before: str = "") -> list[Path]:
        """The folders of the newest events, also of earlier runs: at most `count`, the newest
        first. before: only those whose id is less, as text: an id or its beginning; "": all."""
        found: list[Path] = []
        for day in reversed(self._days()):
            for name in sorted(_event_names(day), key=_id_in, reverse=True):
                if len(found) == count:
                    return found
                if (not before or _id_in(name) < before) and _is_folder(day / name):
                    found.append(day / name)
        return found

    def prune(self) -> int:
        """Delete the oldest events beyond the limits, also those of earlier runs; returns how many.
        Only folders that have the name of an event are deleted. One that cannot be is logged once.
        """
        if self.limits == Limits():
            return 0
        events = [
            (status.st_mtime, _size(entry), entry)
            for day in self._days()
            for entry in _folders(day)
            if _NAME.fullmatch(entry.name) and (status := _status(entry))
        ]
        total, now_s, deleted = sum(size for _, size, _ in events), time.time(), 0
        keep_bytes, keep_s = self.limits.keep_bytes, self.limits.keep_s
        for written_s, size, entry in sorted(events):
            too_old = keep_s is not None and now_s - written_s > keep_s
            too_much = keep_bytes is not None and total > keep_bytes
            if not (too_old or too_much):
                break
            total -= size
            deleted += self._delete(entry)
        return deleted

    def _delete(self, entry: Path) -> bool:
        """Delete an event at once: first it loses its name."""
        doomed = entry.with_name(f".{entry.name}{_PART}")
        try:
            entry.rename(doomed)
            shutil.rmtree(doomed)
        except FileNotFoundError:  # another run has deleted it
            return False
        except OSError as fault:
            if entry not in self._warned:
                self._warned.add(entry)
                logger.warning("%s: cannot be deleted (%s); it is kept", entry, fault.strerror)
            return False
        _remove_if_empty(entry.parent)
        return True

    def _days(self) -> list[Path]:
        return [entry for entry in _folders(self.path) if _DATE.fullmatch(entry.name)]


def time_of(event_id: str) -> datetime:
    """When an id was given (RFC 9562, version 7), in UTC."""
    return datetime.fromtimestamp((uuid.UUID(event_id).int >> 80) / 1e3, timezone.utc)


def _in_a_name(action: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "-", action).strip("-")[:48] or "action"


def _event_names(day: Path) -> list[str]:
    with suppress(OSError):
        return [name for name in os.listdir(day) if _NAME.fullmatch(name)]
    return []


def _id_in(name: str) -> str:
    """The id at the end of a folder's name."""
    return name[-_ID_LENGTH:]


def _folders(path: Path) -> list[Path]:
    """The folders in a folder, in order; links are left out. Empty if it is gone."""
    with suppress(OSError):
        return sorted(entry for entry in path.iterdir() if _is_folder(entry))
    return []


def _is_folder(entry: Path) -> bool:
    status = _status(entry)
    return status is not None and stat.S_ISDIR(status.st_mode)


def _status(entry: Path) -> os.stat_result | None:
    with suppress(OSError):
        return entry.lstat()
    return None


def _size(folder: Path) -> int:
    with suppress(OSError):
        return sum(s.st_size for file in folder.iterdir() if (s := _status(file)))
    return 0


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove_unlocked(folder: Path) -> None:
    """Remove a folder that no run is writing."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(descriptor)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # it is not empty
        folder.rmdir()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
