"""Small disks that really fill up."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[Path]:
    """A file system of that size in memory, mounted at a new folder. Skips the test where that is
    not allowed."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Filler:
    """with Filler(disk) as filler: the disk is full until `filler.remove()`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "filler"

    def __enter__(self) -> Filler:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT)
        size = 1 << 20
        while size:
            try:
                os.write(descriptor, bytes(size))
            except OSError:  # the last pages, too
                size //= 2
        os.close(descriptor)
        return self

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    def __exit__(self, *_: object) -> None:
        self.remove()
