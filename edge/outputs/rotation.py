"""Outputs that are cut into files by time, of which only so much is kept.

out.mp4, every 600 s, of a source `yard`  ->  out-yard-20261126T203000Z.mp4, ...
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

_STAMP = "%Y%m%dT%H%M%SZ"
_STAMPED = r"-\d{8}T\d{6}Z(-\d+)?"


@dataclass(frozen=True, slots=True)
class Segments:
    """every_s: a file is closed after so long and the next begun; None: there is one.
    keep_bytes, keep_s: the oldest are deleted once all are larger, or they are older; None: never.
    """

    every_s: float | None = None
    keep_bytes: int | None = None
    keep_s: float | None = None

    def name(self, path: Path, slug: str) -> Path:
        """The next file of an output that was given as `path`; slug: of the source, "" of all."""
        stem = f"{path.stem}-{slug}" if slug else path.stem
        if self.every_s is None:
            return path.with_name(stem + path.suffix)
        stem += f"-{datetime.now(timezone.utc).strftime(_STAMP)}"
        found, number = path.with_name(stem + path.suffix), 2
        while found.exists() or found.with_name(found.name + ".part").exists():
            found, number = path.with_name(f"{stem}-{number}{path.suffix}"), number + 1
        return found

    def prune(self, path: Path, slugs: set[str], open_files: set[Path]) -> int:
        """Delete what is too much of the output that was given as `path`, also of earlier runs, but
        nothing that is being written, and nothing of other sources than those of `slugs`: another
        run may write to the same folder. Returns how many files that were."""
        if self.every_s is None or (self.keep_bytes is None and self.keep_s is None):
            return 0
        stems = "|".join(re.escape(f"-{slug}" if slug else "") for slug in slugs)
        form = re.compile(f"{re.escape(path.stem)}({stems}){_STAMPED}{re.escape(path.suffix)}")
        files = []
        for entry in path.parent.iterdir():
            whole = entry.with_name(entry.name.removesuffix(".part"))
            if form.fullmatch(whole.name) and whole not in open_files:
                status = entry.stat()
                files.append((status.st_mtime, status.st_size, entry))
        total = sum(size for _, size, _ in files) + sum(
            part.stat().st_size
            for part in (p.with_name(p.name + ".part") for p in open_files)
            if part.exists()
        )
        deleted, now_s = 0, time.time()
        for written_s, size, entry in sorted(files):
            too_old = self.keep_s is not None and now_s - written_s > self.keep_s
            too_much = self.keep_bytes is not None and total > self.keep_bytes
            if not (too_old or too_much):
                break
            entry.unlink(missing_ok=True)
            total, deleted = total - size, deleted + 1
        return deleted
