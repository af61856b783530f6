"""Rotation of output files: a new file after a while, and old ones deleted.

out.mp4 of a source `yard`, every 600 s  ->  out-yard-20261126T203000Z.mp4, ...
"""

from __future__ import annotations

import logging
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

_STAMP = "%Y%m%dT%H%M%SZ"
_STAMPED = r"-\d{8}T\d{6}Z(-\d+)?"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Segments:
    """every_s: the length of a file; None: a single file. keep_bytes: the oldest files are deleted
    above this total size; keep_s: files older than this are deleted; None: never.
    """

    every_s: float | None = None
    keep_bytes: int | None = None
    keep_s: float | None = None
    _warned: set[Path] = field(default_factory=set, repr=False, compare=False)  # by output path

    def name(self, path: Path, slug: str, goes_on: bool = False) -> Path:
        """The next file of the output `path`. slug: of its source; "" if it holds all sources.
        goes_on: this run has already begun one, which must not be overwritten."""
        stem = f"{path.stem}-{slug}" if slug else path.stem
        if self.every_s is None and not goes_on:
            return path.with_name(stem + path.suffix)
        stem += f"-{datetime.now(timezone.utc).strftime(_STAMP)}"
        file, number = path.with_name(stem + path.suffix), 2
        while any(map(os.path.lexists, (file, _part(file)))):
            file, number = path.with_name(f"{stem}-{number}{path.suffix}"), number + 1
        return file

    def prune(self, path: Path, slugs: set[str], open_files: set[Path]) -> int:
        """Delete old files of the output `path`, including those of earlier runs; returns how many.

        Only regular files of the sources `slugs` are deleted (another run may use the same folder),
        and none in `open_files`. A file that cannot be deleted does not count towards the total
        size, and is logged once."""
        if self.every_s is None or (self.keep_bytes is None and self.keep_s is None):
            return 0
        stems = "|".join(re.escape(f"-{slug}" if slug else "") for slug in slugs)
        form = re.compile(f"{re.escape(path.stem)}({stems}){_STAMPED}{re.escape(path.suffix)}")
        files, open_bytes = [], 0
        for entry, status in self._plain_files(path):
            whole = entry.with_name(entry.name.removesuffix(".part"))
            if whole in open_files:
                open_bytes += status.st_size
            elif form.fullmatch(whole.name):
                files.append((status.st_mtime, status.st_size, entry))
        total = open_bytes + sum(size for _, size, _ in files)
        deleted, now_s = 0, time.time()
        for written_s, size, entry in sorted(files):
            too_old = self.keep_s is not None and now_s - written_s > self.keep_s
            too_much = self.keep_bytes is not None and total > self.keep_bytes
            if not (too_old or too_much):
                break
            total -= size
            try:
                entry.unlink()
                deleted += 1
            except FileNotFoundError:  # another run has deleted it
                pass
            except OSError as fault:
                self._warn(path, f"{entry}: cannot be deleted ({fault.strerror}); it is kept")
        return deleted

    def _plain_files(self, path: Path) -> Iterator[tuple[Path, os.stat_result]]:
        """The regular files in the folder of `path`; symbolic links are left out."""
        try:
            entries = list(path.parent.iterdir())
        except OSError as fault:  # if it is gone, opening the next file reports it
            self._warn(
                path, f"{path.parent}: cannot be listed ({fault.strerror}); old files are kept"
            )
            return
        for entry in entries:
            try:
                status = entry.lstat()
            except OSError:  # it is gone
                continue
            if stat.S_ISREG(status.st_mode):
                yield entry, status

    def _warn(self, path: Path, text: str) -> None:
        """Log a warning, once for each output."""
        if path not in self._warned:
            self._warned.add(path)
            logger.warning("%s", text)


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")
