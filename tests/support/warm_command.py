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
# Read once, by what starts or loads Python; a test that sets one needs a new process.
_AT_START = ("LD_PRELOAD", "ONEDNN_MAX_CPU_ISA", "PYTHONPATH")
_ENVIRONMENT = {name: os.environ.get(name) for name in _AT_START}


def can_fork() -> bool:
    """Whether a fork does what a new process would in this environment."""
    return {name: os.environ.get(name) for name in _AT_START} == _ENVIRONMENT


def run_forked(
    words: list[str], timeout_s: float, before: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end. before: Python that the process runs first. Raises
    TimeoutExpired, and has then ended it."""
    with tempfile.TemporaryDirectory() as folder:
        shown, errors = Path(folder, "shown"), Path(folder, "errors")
        arguments = words, dict(os.environ), shown, errors, before
        process = _CONTEXT.Process(target=_run, args=arguments)
        process.start()
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, timeout_s)
        texts = [path.read_text(encoding="utf-8") for path in (shown, errors)]
        return subprocess.CompletedProcess(words, process.exitcode, *texts)


def _run(
    words: list[str], environment: dict[str, str], shown: Path, errors: Path, before: str
) -> None:
    """In the fork."""
    from edge.cli import main

    os.environ.clear()
    os.environ.update(environment)
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
