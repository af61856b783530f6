"""The interface of everything that receives the labels and events of a run."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any

from edge.decision.events import Event
from edge.decision.label import Label
from edge.decision.statistics import SourceStatistics
from edge.sources.reconnect import SourceState


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """A source as outputs know it. slug: its name in letters, digits, - and _, for files, topics
    and paths. frame_rate: nominal, frames a second. None is not known (yet): of a camera the rate
    comes with its first state.
    """

    name: str
    slug: str
    live: bool
    frame_rate: float | None = None
    expected_frames: int | None = None


class Output:
    """Ignores everything; an output overrides what it wants. All methods are called from the run's
    thread, and what they are given is never changed afterwards: an output may keep it, and holds
    nothing of the run itself.

    done: nobody reads the output any more, and the run need not go on.
    """

    done = False

    def begin(self, source: SourceInfo) -> None:
        """A source is about to be read. Comes before anything else of that source."""

    def on_label(self, label: Label) -> None:
        """The next label of its source."""

    def on_event(self, event: Event) -> None:
        """An action has started or ended. Comes after the label that it was seen with."""

    def on_source_state(self, state: SourceState) -> None:
        """A camera runs, is lost, or a source has failed for good."""

    def on_statistics(self, statistics: SourceStatistics) -> None:
        """Counts and stage times of a source so far; about twice a second while it is read."""

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
        """Nothing more comes of the source of this name. summary: see
        edge.outputs.records.summary_record; None where it was not read to its end."""

    def finish(self) -> None:
        """The run has ended well: files get their names."""

    def close(self) -> None:
        """Give back what is open, after `finish` or without it."""

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
