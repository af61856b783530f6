"""A run as a systemd service: the unit, and what the manager wants to be told."""

from __future__ import annotations

import os
import shlex
import socket
import sys
import time
from pathlib import Path
from typing import Any

from edge.errors import SinkError
from edge.listener import Output
from edge.runtime import Label
from edge.supervisor import SourceState

WATCHDOG_S = 60
_TELL_S = 5.0
_UNIT = """\
[Unit]
Description=twostream: {title}
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
WorkingDirectory={folder}
ExecStart={command}
{reload}Restart=always
RestartSec=5
WatchdogSec={watchdog_s}
TimeoutStartSec=30min
TimeoutStopSec=10
NoNewPrivileges=true
PrivateTmp=true
ProtectSystem=full

[Install]
WantedBy=default.target
"""


class SystemdNotifier(Output):
    """Tells systemd, where it listens, that the run is up, alive, and what its camera does.

    A camera that is away is no reason to be restarted: waiting for it is being alive.
    """

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._told_s = 0.0
        self._status = "running"
        self._away: dict[str, str] = {}  # cameras, and why

    def __enter__(self) -> SystemdNotifier:
        self._send("READY=1")
        return self

    def close(self) -> None:
        self._send("STOPPING=1")

    def on_label(self, label: Label) -> None:
        self._alive()

    def on_source_state(self, state: SourceState) -> None:
        self._away.pop(state.name, None)
        if state.state != "running":
            self._away[state.name] = f"{state.name} {state.state}: {state.reason}"
        self._status = "; ".join(self._away.values()) or "running"
        self._told_s = 0.0
        self._alive()

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
        self._away.pop(source, None)

    def _alive(self) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s >= _TELL_S:
            self._told_s = now_s
            self._send(f"WATCHDOG=1\nSTATUS={self._status}")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # a leading @ names an abstract socket
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            try:
                out.sendto(text.encode(), address)
            except OSError:  # the manager has gone; the run goes on
                self._address = ""


def unit_text(name: str, arguments: list[str]) -> str:
    """The unit of a service that does `twostream run ARGUMENTS`, from this environment."""
    words = [str(Path(sys.executable).with_name("twostream")), "run", *arguments]
    # systemd expands both of them
    command = shlex.join(words).replace("%", "%%").replace("$", "$$")
    # without a configuration file a hang-up stops
    configured = any(word.split("=")[0] == "--config" for word in arguments)
    reload = "ExecReload=/bin/kill -HUP $MAINPID\n" if configured else ""
    folder = str(Path.cwd()).replace("%", "%%")  # that paths among the arguments start from
    return _UNIT.format(
        title=name, folder=folder, command=command, reload=reload, watchdog_s=WATCHDOG_S
    )


def install(name: str, arguments: list[str]) -> Path:
    """Write the unit of a service of yours, no root needed. Raises SinkError where it cannot be."""
    if not name or not all(c.isalnum() or c in "-_" for c in name):
        raise SinkError(f"{name!r}: a service's name has letters, digits, - and _")
    base = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config"))
    path = base / "systemd" / "user" / f"twostream-{name}.service"
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # passwords of cameras stand in it
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(unit_text(name, arguments))
        partial.replace(path)
    except OSError as error:
        raise SinkError(f"{path}: cannot be written ({error.strerror})") from None
    return path
