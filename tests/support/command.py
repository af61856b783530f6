"""The `twostream` command as a user calls it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from tests.support.paths import REPOSITORY
from tests.support.waiting import BOUND_S, Found, wait_until
from tests.support.warm_command import can_fork, run_forked

TWOSTREAM = Path(sys.executable).with_name("twostream")


def twostream(*arguments: object, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
    """Run it to the end; timeout_s ends one that hangs."""
    words = [str(TWOSTREAM), *map(str, arguments)]
    if can_fork():
        return run_forked(words, timeout_s)
    return subprocess.run(
        words,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def twostream_after(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run it to the end in a process that has run `code` first, such as a change of a constant."""
    assert can_fork()
    return run_forked([str(TWOSTREAM), *map(str, arguments)], 600, code)


class Running:
    """`with Running("run", bundle, ...) as run:` the command beside the test, which ends it.

    lines, errors: of the standard output and error so far. preexec: called in the new process.
    """

    def __init__(
        self,
        *arguments: object,
        environment: Mapping[str, str] | None = None,
        preexec: Callable[[], None] | None = None,
    ) -> None:
        self._words = [str(TWOSTREAM), *map(str, arguments)]
        self._environment, self._preexec = os.environ | (environment or {}), preexec
        self.lines: list[str] = []
        self.errors: list[str] = []

    def __enter__(self) -> Running:
        self.process = subprocess.Popen(
            self._words,
            cwd=REPOSITORY,
            env=self._environment,
            preexec_fn=self._preexec,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        pairs = ((self.process.stdout, self.lines), (self.process.stderr, self.errors))
        self._readers = [threading.Thread(target=_read, args=pair) for pair in pairs]
        for reader in self._readers:
            reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self._end()

    def wait_until(self, ask: Callable[[], Found], pause_s: float = 0.05) -> Found:
        """The first answer that is true. Fails where the command ends before there is one."""

        def found() -> Found:
            code = self.process.poll()
            answer = ask()
            assert answer or code is None, f"it ended with {code}: {self.errors[-5:]}"
            return answer

        return wait_until(found, pause_s)

    def said(self, pattern: str) -> re.Match[str]:
        """The first line of the standard error in which that is, once there is one."""
        return self.wait_until(
            lambda: next(filter(None, (re.search(pattern, line) for line in self.errors)), None)
        )

    def stop(self, number: signal.Signals = signal.SIGTERM, code: int = 0) -> str:
        """Send the signal, wait for the end, whose exit code it must be; gives what was said."""
        self.process.send_signal(number)
        return self.finished(code)

    def finished(self, code: int = 0) -> str:
        """Wait for the end, whose exit code it must be; gives what was said."""
        self.process.wait(BOUND_S)
        self._end()
        said = "".join(self.errors)
        assert self.process.returncode == code, said
        assert "Traceback" not in said
        return said

    def _end(self) -> None:
        self.process.wait()
        for reader in self._readers:
            reader.join()


def _read(stream: IO[str], lines: list[str]) -> None:
    with stream:
        for line in stream:
            lines.append(line)


def growing(path: Path) -> str:
    """What has been written so far of an output that is to be `path`."""
    part = path.with_name(path.name + ".part")
    return part.read_text() if part.exists() else ""


def assert_refused(done: subprocess.CompletedProcess[str], *says: object) -> None:
    """Exit code 2 and one line on stderr that has all of `says`; nothing on stdout. On processors
    whose INT8 is wrong a run may have said so before."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    lines = [line for line in lines if "the networks run as " not in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("twostream: ")
    for text in says:
        assert str(text) in lines[0]


def read_lines(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The labels and the summary of a JSON-lines file."""
    *lines, last = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    labels = [line for line in lines if "frame" in line]
    return labels, last["summary"]
