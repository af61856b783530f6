"""Outputs that are cut into files by time, of which only so much is kept.

out.mp4, every 600 s, of a source `yard`  ->  out-yard-20261126T203000Z.mp4, ...
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
    """every_s: a file is closed after so long and the next begun; None: there is one.
    keep_bytes, keep_s: the oldest are deleted once all are larger, or they are older; None: never.
    """

    every_s: float | None = None
    keep_bytes: int | None = None
    keep_s: float | None = None
    _told: set[Path] = field(default_factory=set, repr=False, compare=False)  # outputs: warned of

    def name(self, path: Path, slug: str) -> Path:
        """The next file of an output that was given as `path`; slug: of the source, "" of all."""
        stem = f"{path.stem}-{slug}" if slug else path.stem
        if self.every_s is None:
            return path.with_name(stem + path.suffix)
        stem += f"-{datetime.now(timezone.utc).strftime(_STAMP)}"
        found, number = path.with_name(stem + path.suffix), 2
        while any(map(os.path.lexists, (found, _part(found)))):
            found, number = path.with_name(f"{stem}-{number}{path.suffix}"), number + 1
        return found

    def prune(self, path: Path, slugs: set[str], open_files: set[Path]) -> int:
        """Delete what is too much of the output that was given as `path`, also of earlier runs, but
        nothing that is being written, nothing but plain files, and nothing of other sources than
        those of `slugs`: another run may write to the same folder. What cannot be deleted is left
        out of the sum, and said once. Returns how many files were deleted."""
        if self.every_s is None or (self.keep_bytes is None and self.keep_s is None):
            return 0
        stems = "|".join(re.escape(f"-{slug}" if slug else "") for slug in slugs)
        form = re.compile(f"{re.escape(path.stem)}({stems}){_STAMPED}{re.escape(path.suffix)}")
        files, opened_bytes = [], 0
        for entry, status in self._plain_files(path):
            whole = entry.with_name(entry.name.removesuffix(".part"))
            if whole in open_files:
                opened_bytes += status.st_size
            elif form.fullmatch(whole.name):
                files.append((status.st_mtime, status.st_size, entry))
        total = opened_bytes + sum(size for _, size, _ in files)
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
        """Those beside `path`; a link is none, wherever it leads."""
        try:
            entries = list(path.parent.iterdir())
        except OSError as fault:  # where it has gone, who opens the next file says so
            self._warn(path, f"{path.parent}: cannot be listed ({fault.strerror}); all is kept")
            return
        for entry in entries:
            try:
                status = entry.lstat()
            except OSError:  # it has gone
                continue
            if stat.S_ISREG(status.st_mode):
                yield entry, status

    def _warn(self, path: Path, text: str) -> None:
        """Once for each output."""
        if path not in self._told:
            self._told.add(path)
            logger.warning("%s", text)


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")
