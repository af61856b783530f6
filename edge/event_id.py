"""Identifiers of events: UUIDs of version 7 (RFC 9562), which sort by time as text."""

from __future__ import annotations

import secrets
import threading
import time
import uuid

_UNITS_PER_MS = 1 << 12  # 12 bits below the millisecond, as section 6.2, method 3


class _Ticks:
    """Rising by one at least, also where the clock stands still or goes back. Thread-safe."""

    def __init__(self) -> None:
        self._lock, self._last = threading.Lock(), 0

    def next(self) -> int:
        """The time since 1970 in 1/4096 ms, 60 bits."""
        with self._lock:
            self._last = max(time.time_ns() * _UNITS_PER_MS // 1_000_000, self._last + 1)
            return self._last


_ticks = _Ticks()


def new_event_id() -> str:
    """Unique in the world, and greater than all that this process has given before."""
    milliseconds, fraction = divmod(_ticks.next(), _UNITS_PER_MS)
    value = (milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62
    return str(uuid.UUID(int=value | secrets.randbits(62)))
