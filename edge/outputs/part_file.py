"""A file that is written as `NAME.part` and renamed to `NAME` once it is complete."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from pathlib import Path

from edge.errors import OutputError
from edge.files import open_growing, why

_FREE_MIN_BYTES = 16 << 20
_SYNC_S = 0.5
_NO_HANDLES = (errno.EMFILE, errno.ENFILE)


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
    """`NAME.part`, which `publish` renames to `NAME`.

    fault: why what is written does not reach the disk, in words; None: no such fault is known. A
    writer sees most faults itself, but not that its file was deleted, nor what only a sync shows.
    """

    def __init__(self, path: Path) -> None:
        """Create the file, so that a failure shows before any work. Raises OutputError."""
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self._over = threading.Event()
        self._keeper: threading.Thread | None = None
        self.fault: str | None = None
        self._inode: tuple[int, int] | None = None
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
            descriptor = open_growing(self.part)
        except OSError as fault:
            raise OutputError(f"{self.part}: cannot be written ({why(fault)})") from None
        self._inode = _inode(descriptor)
        return descriptor

    def keep(self) -> None:
        """Sync the file to disk twice a second from now on, so that a power cut loses no more. In a
        thread of its own, since a slow SD card may take long."""
        self._keeper = threading.Thread(target=self._sync, daemon=True)
        self._keeper.start()

    def _sync(self) -> None:
        while not self._over.wait(_SYNC_S):
            try:
                with self.part.open("rb") as file:
                    if _inode(file.fileno()) != self._inode:
                        raise FileNotFoundError
                    os.fdatasync(file.fileno())
            except FileNotFoundError:
                self.fault = "it was deleted or replaced while it was written"
            except OSError as fault:
                if fault.errno not in _NO_HANDLES:  # then it is tried again
                    self.fault = why(fault)

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
            raise OutputError(f"{self.path}: {why(fault)}; see {self.part}") from None

    def check(self) -> None:
        """Raises OutputError if what is written does not reach the disk."""
        if self.fault is not None:
            raise OutputError(f"{self.part}: {self.fault}")

    def cut(self, descriptor: int, count: int) -> None:
        """Take back the last `count` bytes, the beginning of what did not get room."""
        with contextlib.suppress(OSError):  # the disk is gone: nothing is left to cut
            end = os.lseek(descriptor, -count, os.SEEK_CUR)
            os.ftruncate(descriptor, end)

    def discard_if_empty(self) -> None:
        self.leave()
        with contextlib.suppress(OSError):  # it is gone already, or cannot be deleted
            if self.part.stat().st_size == 0:
                self.part.unlink()


def _inode(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
