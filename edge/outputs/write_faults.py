"""Files that cannot be written, while a run of cameras goes on.

A disk that is full or gone does not stop recognition: the file stays as it is, under `NAME.part`,
and a new one is tried every RETRY_S. Of a run of files the recording is the purpose: there the
fault ends it.
"""

from __future__ import annotations

import time

from edge.errors import OutputError
from edge.outputs.health import OutputHealth

RETRY_S = 5.0  # between two attempts; one that has lasted for so long is a success


class WriteFaults:
    """The files of an output that cannot be written now. Each belongs to an owner: the name of its
    source, or "" if it holds all sources.

    goes_on: whether the run does.
    """

    def __init__(self, health: OutputHealth, goes_on: bool) -> None:
        self._health, self._goes_on = health, goes_on
        self._failing: set[str] = set()
        self._opened_s: dict[str, float] = {}  # the last attempt of each owner

    def note(self, owner: str, fault: OutputError) -> None:
        """Raises `fault` if the run is to end."""
        if not self._goes_on:
            raise fault
        self._failing.add(owner)
        self._health.fail(str(fault))

    def may_open(self, owner: str) -> bool:
        """Whether it is time for the next attempt, which this call begins."""
        now_s = time.monotonic()
        if owner in self._failing and now_s - self._opened_s.get(owner, -RETRY_S) < RETRY_S:
            return False
        self._opened_s[owner] = now_s
        return True

    def written(self, owner: str) -> None:
        """Something was handed to the owner's file, which may still fail to reach the disk."""
        if self._health.failing and time.monotonic() - self._opened_s[owner] >= RETRY_S:
            self.over(owner)

    def over(self, owner: str) -> None:
        """The owner's file was written, or is being written for long enough."""
        self._failing.discard(owner)
        if not self._failing:
            self._health.recover()

    def forget(self, owner: str) -> None:
        """The owner has no file any more."""
        self._failing.discard(owner)
