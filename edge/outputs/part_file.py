"""A file that grows under the name `NAME.part` and becomes `NAME` once it is whole."""

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
    """Raises OutputError where no file of that name can be."""
    if not os.path.isdir(path.parent):
        raise OutputError(f"{path}: the folder {path.parent} does not exist; create it first")
    if os.path.isdir(path):
        raise OutputError(f"{path} is a folder; give the name of a file to write")


def check_room(path: Path) -> None:
    """Raises OutputError where the disk is full."""
    try:
        free_bytes = shutil.disk_usage(path.parent).free
    except OSError as fault:
        raise OutputError(f"{path}: cannot be written ({why(fault)})") from None
    if free_bytes < _FREE_MIN_BYTES:
        raise OutputError(f"{path}: only {free_bytes >> 20} MiB are free there; make room first")


class PartFile:
    """`NAME.part`, which becomes `NAME` at a good end."""

    def __init__(self, path: Path) -> None:
        """Create it. Raises OutputError where that is impossible, before any work is done."""
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
        """Its descriptor; it is empty then. Raises OutputError."""
        try:
            return open_growing(self.part)
        except OSError as fault:
            raise OutputError(f"{self.part}: cannot be written ({why(fault)})") from None

    def keep(self) -> None:
        """Bring what is written to the disk twice a second from now on: so little does a power cut
        take. Beside whoever writes, since a slow card may take its time."""
        self._keeper = threading.Thread(target=self._bring_to_disk, daemon=True)
        self._keeper.start()

    def _bring_to_disk(self) -> None:
        while not self._over.wait(_SYNC_S):
            # no file handle is free: it is tried again; a full or broken disk: who writes is told
            with contextlib.suppress(OSError), self.part.open("rb") as file:
                os.fdatasync(file.fileno())

    def leave(self) -> None:
        """No more is written."""
        self._over.set()
        if self._keeper is not None:
            self._keeper.join()
            self._keeper = None

    def publish(self) -> None:
        """Rename, once the content is safely on the disk."""
        self.leave()
        try:
            with self.part.open("rb") as file:
                os.fsync(file.fileno())
            self.part.replace(self.path)
        except OSError as fault:
            raise OutputError(f"{self.path}: {fault.strerror}; see {self.part}") from None

    def discard_if_empty(self) -> None:
        self.leave()
        with contextlib.suppress(OSError):  # it has gone, or must stay: it is empty
            if self.part.stat().st_size == 0:
                self.part.unlink()
