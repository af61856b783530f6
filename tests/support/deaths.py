"""Kills the process that reads a file, as the kernel does when memory is short."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.support.command import Running


def kill_reader(run: Running, file: Path) -> None:
    """Wait until a process that the command has started reads `file`, and end it."""
    run.wait_until(lambda: kill_child_that_reads(file, run.process.pid), pause_s=0.005)


def kill_child_that_reads(file: Path, parent: int) -> bool:
    """Whether a process that `parent` has started reads `file` now; it is ended."""
    for children in Path(f"/proc/{parent}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            with suppress(OSError):
                if any(os.path.realpath(fd) == str(file) for fd in _files(child)):
                    os.kill(child, signal.SIGKILL)
                    return True
    return False


def _files(process: int) -> list[Path]:
    return list(Path(f"/proc/{process}/fd").iterdir())
