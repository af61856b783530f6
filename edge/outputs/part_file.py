"""A file that is written as `NAME.part` and renamed to `NAME` once it is complete."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from pathlib import Path

from edge.errors import OutputError
from edge.files import open_growing, why

_FREE_MIN_BYTES = 16 << 20
_SYNC_S = 0.5


def check_place(path: Path) -> None:
    """Raises OutputError if no file can have this path."""
    if not os.path.isdir(path.parent):
        raise OutputError(f"{path}: the folder {path.parent} does not exist; create it first")
    if os.path.isdir(path):
        raise OutputError(f"{path} is a folder; give the name of a file to write")


def check_room(path: Path) -> None:
    """Raises OutputError if the disk is full."""
    try:
        free_bytes = shutil.disk_usage(path.parent).free
    except OSError as fault:
        raise OutputError(f"{path}: cannot be written ({why(fault)})") from None
    if free_bytes < _FREE_MIN_BYTES:
        raise OutputError(f"{path}: only {free_bytes >> 20} MiB free on its disk; make room first")


class PartFile:
    """`NAME.part`, which `publish` renames to `NAME`."""

    def __init__(self, path: Path) -> None:
        """Create the file, so that a failure shows before any work. Raises OutputError."""
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self._over = threading.Event()
        self._keeper: threading.Thread | None = None
        check_place(path)
        os.close(self.open())
        try:
            check_room(path)
        except OutputError:
            self.discard_if_empty()
            raise

    def open(self) -> int:
        """Empty the file and return its descriptor. Raises OutputError."""
        try:
            return open_growing(self.part)
        except OSError as fault:
            raise OutputError(f"{self.part}: cannot be written ({why(fault)})") from None

    def keep(self) -> None:
        """Sync the file to disk twice a second from now on, so that a power cut loses no more. In a
        thread of its own, since a slow SD card may take long."""
        self._keeper = threading.Thread(target=self._sync, daemon=True)
        self._keeper.start()

    def _sync(self) -> None:
        while not self._over.wait(_SYNC_S):
            # no free file handle: tried again next time; a full or broken disk: the writer sees it
            with contextlib.suppress(OSError), self.part.open("rb") as file:
                os.fdatasync(file.fileno())

    def leave(self) -> None:
        """Stop syncing; nothing more is written."""
        self._over.set()
        if self._keeper is not None:
            self._keeper.join()
            self._keeper = None

    def publish(self) -> None:
        """Sync the file to disk and rename it. Raises OutputError."""
        self.leave()
        try:
            with self.part.open("rb") as file:
                os.fsync(file.fileno())
            self.part.replace(self.path)
        except OSError as fault:
            raise OutputError(f"{self.path}: {fault.strerror}; see {self.part}") from None

    def discard_if_empty(self) -> None:
        self.leave()
        with contextlib.suppress(OSError):  # it is gone already, or cannot be deleted
            if self.part.stat().st_size == 0:
                self.part.unlink()
