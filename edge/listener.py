"""Who hears what a run has to say: labels as they come, and what happens between them."""

from __future__ import annotations

from edge.events import Event
from edge.runtime import Label
from edge.supervisor import CameraState

Notice = Event | CameraState


class Listener:
    """Hears nothing; those who want to hear something override it. Called from one thread."""

    def begin(self, source: str) -> None:
        """A source of this name is about to be looked at."""

    def show(self, label: Label) -> None:
        """The next label of its source."""

    def tell(self, notice: Notice) -> None:
        """An action starts or ends, a camera is lost or runs again."""

    def end(self, source: str) -> None:
        """Nothing more comes of the source of this name."""
