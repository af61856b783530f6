"""Whether an output works, and what it has lost. It goes on by itself once the cause is over."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from edge.event_id import new_event_id


@dataclass(frozen=True, slots=True)
class OutputState:
    """A change: an output works, or does not for a reason, in one line. lost: how many `items` it
    has lost by then. id: the same in every output."""

    name: str
    state: Literal["working", "failing"]
    reason: str
    lost: int
    items: str
    id: str = field(default_factory=new_event_id, compare=False)


class OutputHealth:
    """The state of one output, which begins with working. Thread-safe.

    items: what it may lose, with the verb: "frames not recorded".
    """

    def __init__(self, name: str, items: str) -> None:
        self.name, self.items = name, items
        self._lock = threading.Lock()
        self._lost: Counter[str] = Counter()
        self._failing = False
        self._changes = [OutputState(name, "working", "", 0, items)]

    def fail(self, reason: str) -> None:
        """It does not work; of several reasons the first is kept."""
        with self._lock:
            if not self._failing:
                self._failing = True
                self._note("failing", reason)

    def recover(self) -> None:
        """It works."""
        with self._lock:
            if self._failing:
                self._failing = False
                self._note("working", "")

    def lose(self, source: str, count: int = 1) -> None:
        """What belonged to this source was not written or delivered, and never will be."""
        with self._lock:
            self._lost[source] += count

    def lost(self, source: str) -> int:
        with self._lock:
            return self._lost[source]

    @property
    def lost_total(self) -> int:
        with self._lock:
            return self._lost.total()

    @property
    def failing(self) -> bool:
        return self._failing

    def changes(self) -> list[OutputState]:
        """The changes since this was last asked, in order."""
        with self._lock:
            changes, self._changes = self._changes, []
            return changes

    def _note(self, state: Literal["working", "failing"], reason: str) -> None:
        lost = self._lost.total()
        self._changes.append(OutputState(self.name, state, reason, lost, self.items))
