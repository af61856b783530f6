"""Runs a bash script on another machine with the system's ssh client.

The client is used as the user has configured it (keys, agent, aliases, jump hosts, known hosts),
but without prompts: where it would ask, there is an error that says what to do.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from edge.errors import DeviceError

_OPTIONS = {
    "BatchMode": "yes",  # no password, no question
    "ConnectTimeout": "10",
    "ServerAliveInterval": "10",  # a connection that is dead for 40 s is closed
    "ServerAliveCountMax": "4",
    "ClearAllForwardings": "yes",
}
_FAILED = 255  # ssh's exit code for its own errors
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_TARGET = re.compile(rf"(?:{_NAME}@)?(?:{_NAME}|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?)")
# Printed first by the script; everything before it comes from the remote user's profile.
_MARK = "twostream-remote-begins"
_NOISE_MAX_LINES = 1000
_LINE_MAX_BYTES = 1 << 14
_DIAGNOSIS_BYTES = 1 << 14


class Session:
    """A script that runs on another machine. stdin, stdout: of the script, binary."""

    def __init__(self, target: str, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.host = check_target(target)
        self._target = target
        self.stdin, self.stdout = process.stdin, process.stdout
        self._process, self._log = process, log
        self._begun = False

    def begin(self) -> None:
        """Skip output before the script begins. Raises DeviceError if it never does."""
        for _ in range(_NOISE_MAX_LINES):
            line = self.stdout.readline(_LINE_MAX_BYTES)
            if line.strip() == _MARK.encode():
                self._begun = True
                return
            if not line:
                code = self.finish()
                raise DeviceError(
                    f"{self.host}: a login there runs no command (code {code}){_last(self.said())};"
                    f" see: ssh {self._target} bash -lc true"
                )
        raise DeviceError(
            f"{self.host}: its profile prints too much; see: ssh {self._target} bash -lc true"
        )

    def lines(self) -> Iterator[str]:
        """The lines that the script prints, without terminal control characters."""
        while line := self.stdout.readline(_LINE_MAX_BYTES):
            text = line.decode(errors="replace").rstrip().rpartition("\r")[2]
            yield "".join(c if c.isprintable() else " " for c in text)

    def finish(self) -> int:
        """The script's exit code. Raises DeviceError if the connection failed or was lost."""
        with suppress(OSError):  # data that could not be sent; the exit code tells why
            self.stdin.close()
        code = self._process.wait()
        if code == _FAILED or code < 0:
            raise DeviceError(_explain(self._target, self.said(), self._begun))
        return code

    def said(self) -> str:
        """The end of what ssh and the script wrote to standard error."""
        self._log.seek(0, 2)
        self._log.seek(max(0, self._log.tell() - _DIAGNOSIS_BYTES))
        text = self._log.read().decode(errors="replace")
        return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def check_target(target: str) -> str:
    """The host of `target`, HOST or USER@HOST. Raises DeviceError for anything else.

    ssh would take a target that begins with `-` for an option, and options can run commands.
    """
    if not _TARGET.fullmatch(target):
        raise DeviceError(
            f"{target!r} is not a valid target; give HOST or USER@HOST (put a port, a key or a "
            "jump host into ~/.ssh/config under a name, and give that name as HOST)"
        )
    return target.rpartition("@")[2]


@contextmanager
def open_session(target: str, script: str) -> Iterator[Session]:
    """Run a bash script in a login shell on `target`, so that ~/.profile sets PATH.

    Raises DeviceError if there is no connection. It is closed at the end of the block.
    """
    check_target(target)
    command = f"bash -lc {shlex.quote(f'echo {_MARK}; {script}')}"
    options = [word for key, value in _OPTIONS.items() for word in ("-o", f"{key}={value}")]
    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(
                ["ssh", "-T", *options, "--", target, command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        except OSError as fault:
            raise DeviceError(
                f"ssh cannot be started ({fault.strerror}); run: sudo apt install openssh-client"
            ) from None
        session = Session(target, process, log)
        try:
            session.begin()
            yield session
        finally:
            process.kill()
            process.wait()
            session.stdout.close()
            with suppress(OSError):
                session.stdin.close()


def _explain(target: str, said: str, begun: bool) -> str:
    """Turn ssh's error into one line that says what to do."""
    host = check_target(target)
    if begun:
        return (
            f"{host}: the connection was lost{_last(said)}; nothing was changed here, run the "
            "command again"
        )
    if "IDENTIFICATION HAS CHANGED" in said:
        forget = re.search(r'ssh-keygen -f \S+ -R "?([^"\s]+)"?', said)  # Debian's says how
        entry = forget[1] if forget else host
        return (
            f"{host}: its host key has changed: it was reinstalled, or another machine answers; "
            f"once you know why, run: ssh-keygen -R {shlex.quote(entry)}"
        )
    silent = "it does not answer; check that it is on and in the network"
    remedies = {
        "Host key verification failed": "its host key is unknown here; check and accept it by "
        f"logging in once: ssh {target}",
        "Permission denied": "it accepts none of your keys, and passwords are not supported; run: "
        f"ssh-copy-id {target}",
        "Could not resolve hostname": "unknown host name; check it, or give the IP address",
        "Connection refused": "no ssh server answers; on the board, run: sudo systemctl enable "
        "--now ssh",
        "timed out": silent,
        "No route to host": silent,
        "unreachable": silent,
    }
    for complaint, remedy in remedies.items():
        if complaint in said:
            return f"{host}: {remedy}"
    return f"{host}: no connection{_last(said)}; see: ssh -v {target}"


def _last(said: str) -> str:
    lines = [line.strip() for line in said.split("\n") if line.strip()]
    return f" ({lines[-1]})" if lines else ""
