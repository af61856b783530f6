"""What systemd wants to be told of a service."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from edge.decision.label import Label
from edge.outputs.base import Output
from edge.sources.reconnect import SourceState
from edge.text import printable

_TELL_S = 5.0


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
            self._away[state.name] = printable(f"{state.name} {state.state}: {state.reason}")
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
