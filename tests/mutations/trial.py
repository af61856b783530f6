"""Tries mutations in copies of the tree, and remembers what came of it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.mutations.mutation import Mutation
from tests.support.paths import REPOSITORY

TIMEOUT_S = 600  # a fault may make a test wait for ever
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
_ITSELF = "tests/mutations/"


class TrialError(Exception):
    """A trial that says nothing: it was broken off, or names no test."""


@dataclass(frozen=True)
class Outcome:
    """found_by: the first test that fails or crashes, None if all pass. seconds: that it took."""

    found_by: str | None
    seconds: float


def tracked_files() -> list[str]:
    """The files that git knows, or would add, as they are now."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    files = filter(None, listed.stdout.split("\0"))
    return sorted(file for file in files if (REPOSITORY / file).is_file())


def copy_tree(files: Iterable[str], folder: Path) -> None:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / file, folder / file)


def _run_tests(tree: Path, tests: tuple[str, ...]) -> Outcome:
    """Until the first that fails. Raises TrialError."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider"]
    started = time.monotonic()
    try:
        done = subprocess.run(
            [*command, "--tb=no", "-rfE", *tests],
            cwd=tree,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(tree)},
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return Outcome(f"{tests[0]} (did not end in {TIMEOUT_S} s)", TIMEOUT_S)
    seconds = time.monotonic() - started
    if done.returncode == 0:
        return Outcome(None, seconds)
    if failed := re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, re.MULTILINE):
        return Outcome(failed[1], seconds)
    if -done.returncode in CRASHES:
        return Outcome(f"{tests[0]} ({signal.Signals(-done.returncode).name})", seconds)
    raise TrialError(f"{tests[0]}: pytest ended with {done.returncode}, and no test has failed")


def fits(mutation: Mutation) -> bool:
    """Whether what it changes is in the file once."""
    return (REPOSITORY / mutation.file).read_text(encoding="utf-8").count(mutation.right) == 1


@dataclass(frozen=True)
class Trial:
    """tests: as pytest takes them. mutation: None, where they are run without a fault."""

    name: str
    tests: tuple[str, ...]
    mutation: Mutation | None

    def run(self, tree: Path) -> Outcome:
        """In a copy of the tree, which is left as it was."""
        if self.mutation is None:
            return _run_tests(tree, self.tests)
        path = tree / self.mutation.file
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(self.mutation.right, self.mutation.wrong), encoding="utf-8")
        try:
            return _run_tests(tree, self.tests)
        finally:
            path.write_text(text, encoding="utf-8")


class Memory:
    """What came of earlier trials, in a file; forgotten where the tree has changed since."""

    def __init__(self, path: Path, files: Iterable[str]) -> None:
        self._path = path
        digest = hashlib.sha256()
        for file in files:
            if (file.endswith(".py") and not file.startswith(_ITSELF)) or "/cuda/" in file:
                digest.update(file.encode() + b"\0" + (REPOSITORY / file).read_bytes())
        self._tree = digest.hexdigest()
        self._lock = threading.Lock()
        self._outcomes: dict[str, dict] = {}
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["tree"] == self._tree:
                self._outcomes = kept["outcomes"]

    def get(self, trial: Trial) -> Outcome | None:
        kept = self._outcomes.get(repr(trial))
        return None if kept is None else Outcome(**kept)

    def keep(self, trial: Trial, outcome: Outcome) -> None:
        with self._lock:
            self._outcomes[repr(trial)] = asdict(outcome)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part = self._path.with_suffix(".part")
            part.write_text(
                json.dumps({"tree": self._tree, "outcomes": self._outcomes}, indent=1),
                encoding="utf-8",
            )
            part.replace(self._path)
