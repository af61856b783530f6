"""`make dist`, an empty environment to install its wheel in, and uv."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import uv

from tests.support.paths import REPOSITORY

BOUND_S = 900


def make_dist(folder: Path) -> None:
    """Into `folder`, with this environment instead of the Makefile's."""
    variables = {"DIST": folder, "BIN": Path(sys.executable).parent}
    here = "--old-file=.venv/.dist"  # no environment is set up
    done = subprocess.run(
        ["make", "dist", *(f"{name}={value}" for name, value in variables.items()), here],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if "run: pip install" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[0])
    skip_without_index(done.stderr)
    assert done.returncode == 0, done.stderr


def run_uv(*words: object, text: str = "") -> str:
    """uv, which resolves for other machines and to the oldest versions. Skips where there is no
    index. Returns its output."""
    command = [uv.find_uv_bin(), *map(str, words), "--quiet", "--no-config", "--system-certs"]
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=BOUND_S, check=False
    )
    skip_without_index(done.stderr)
    assert done.returncode == 0, done.stderr
    return done.stdout


def skip_without_index(said: str) -> None:
    """As uv and pip say it."""
    for complaint in ("Failed to fetch", "network was disabled", "NewConnectionError"):
        if complaint in said:
            pytest.skip(f"no package index can be reached here ({complaint})")


class Environment:
    """A virtual environment with nothing but what the distribution brings, such as gi."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.python = folder, folder / "bin" / "python"
        command = [sys.executable, "-m", "venv", "--system-site-packages", folder]
        subprocess.run(command, check=True, capture_output=True)

    def run(self, command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """A shell command with the environment activated."""
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
        done = subprocess.run(
            command,
            shell=True,
            cwd=cwd,
            env=kept | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=BOUND_S,
            check=False,
        )
        if command.startswith("pip "):
            skip_without_index(done.stderr)
        return done
