"""The `twostream` command as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.paths import REPOSITORY

TWOSTREAM = Path(sys.executable).with_name("twostream")


def twostream(*arguments: object, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run it to the end."""
    return subprocess.run(
        [str(TWOSTREAM), *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def assert_refused(done: subprocess.CompletedProcess[str], *says: object) -> None:
    """Exit code 2 and one line on stderr that has all of `says`; nothing on stdout."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("twostream: ")
    for text in says:
        assert str(text) in lines[0]


def read_lines(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The labels and the summary of a JSON-lines file."""
    *lines, last = [json.loads(line) for line in path.read_text().splitlines()]
    labels = [line for line in lines if "frame" in line]
    return labels, last["summary"]
