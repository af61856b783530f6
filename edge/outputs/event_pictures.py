"""The annotated frame at which an action started, as JPEG, compressed once for all outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge.decision.events import Event
from edge.decision.label import Label
from edge.outputs.base import Output
from edge.outputs.jpeg import jpeg_bytes
from edge.outputs.overlay import Picture


class EventPictures(Output):
    """Stands before the outputs that ask it. draw: returns (H, W, 3) BGR."""

    def __init__(self, draw: Callable[[Label], Picture]) -> None:
        self._draw = draw
        self._labels: dict[str, Label] = {}  # the last of each source
        self._last: tuple[str, bytes] = ("", b"")  # the event's id and its picture

    def on_label(self, label: Label) -> None:
        self._labels[label.source] = label

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
        self._labels.pop(source, None)

    def __call__(self, event: Event) -> bytes:
        """The picture of an event that has just come."""
        if self._last[0] != event.id:
            self._last = (event.id, jpeg_bytes(self._draw(self._labels[event.source])))
        return self._last[1]
