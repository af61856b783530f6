"""`twostream` in a fork of a process that has imported it and has loaded its kernels: that is most
of the time of a test that reads a message. `Running` starts it as a user does."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.paths import REPOSITORY

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.support.warm_imports"])
_ENVIRONMENT = dict(os.environ)
_OF_PYTEST = "PYTEST_CURRENT_TEST"


def can_fork() -> bool:
    """Not in another environment than that in which the imports were made."""
    names = (os.environ.keys() | _ENVIRONMENT) - {_OF_PYTEST}
    return all(os.environ.get(name) == _ENVIRONMENT.get(name) for name in names)


def run_forked(
    words: list[str], timeout_s: float, before: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end. before: Python that the process runs first. Raises
    TimeoutExpired, and has then ended it."""
    with tempfile.TemporaryDirectory() as folder:
        shown, errors = Path(folder, "shown"), Path(folder, "errors")
        process = _CONTEXT.Process(target=_run, args=(words, shown, errors, before))
        process.start()
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, timeout_s)
        texts = [path.read_text(encoding="utf-8") for path in (shown, errors)]
        return subprocess.CompletedProcess(words, process.exitcode, *texts)


def _run(words: list[str], shown: Path, errors: Path, before: str) -> None:
    """In the fork."""
    from edge.cli import main

    os.chdir(REPOSITORY)
    for descriptor, path in ((1, shown), (2, errors)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    sys.argv = words
    exec(before, {})
    try:
        main()
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out
