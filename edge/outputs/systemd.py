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
        self._told_s, self._ready = 0.0, False
        self._status = "running"
        self._away: dict[str, str] = {}  # cameras, and why

    def __enter__(self) -> SystemdNotifier:
        self._ready = self._send("READY=1")
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
            ready = "" if self._ready else "READY=1\n"
            self._ready |= self._send(f"{ready}WATCHDOG=1\nSTATUS={self._status}")

    def _send(self, text: str) -> bool:
        """Whether the manager has it. The run does not wait for one that is behind: the next
        message says the same."""
        if not self._address:
            return False
        # a leading @ names an abstract socket
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.setblocking(False)
            try:
                out.sendto(text.encode(), address)
                return True
            except BlockingIOError:
                pass
            except OSError:  # the manager has gone; the run goes on
                self._address = ""
        return False
