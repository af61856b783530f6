"""Notifications to systemd (sd_notify): ready, watchdog, status, stopping."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from edge.decision.label import Label
from edge.outputs.base import Output
from edge.sources.reconnect import SourceState
from edge.text import printable

_NOTIFY_S = 5.0


class SystemdNotifier(Output):
    """Tells systemd that the run is ready and alive, and the state of its cameras. Does nothing
    outside a service.

    A lost camera is no reason for a restart: a run that waits for it counts as alive.
    """

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._notified_s, self._ready = 0.0, False
        self._status = "running"
        self._away: dict[str, str] = {}  # state and reason of lost and failed cameras, by name

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
        self._notified_s = 0.0
        self._alive()

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
        self._away.pop(source, None)

    def _alive(self) -> None:
        now_s = time.monotonic()
        if now_s - self._notified_s >= _NOTIFY_S:
            self._notified_s = now_s
            ready = "" if self._ready else "READY=1\n"
            self._ready |= self._send(f"{ready}WATCHDOG=1\nSTATUS={self._status}")

    def _send(self, text: str) -> bool:
        """Send a notification; returns whether systemd took it. If its queue is full the run does
        not wait: the next message repeats the state."""
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
            except OSError:  # systemd is gone; the run continues
                self._address = ""
        return False
