"""Actions that were not seen."""

from __future__ import annotations

from edge.decision.events import Event


def make_event(number: int) -> Event:
    """The start of an action; its number is when it began."""
    return Event("cam", "start", "Diving", float(number), number + 0.5, 0.9)
