"""The interface of everything that receives the labels and events of a run."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any

from edge.bundle.manifest import Bundle
from edge.decision.events import Event
from edge.decision.label import Label
from edge.decision.statistics import SourceStatistics
from edge.outputs.health import OutputHealth, OutputState
from edge.sources.reconnect import SourceState
from edge.video.packets import PacketRing
from edge.video.view import WHOLE, View


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What outputs know of a source.

    slug: its name in letters, digits, - and _, for files, topics and paths. frame_rate: nominal,
    frames a second; None: not known yet, since a camera's rate comes with its first state. device:
    what computes its labels. packets: the last seconds of its own compressed stream, on the clock
    of `Frame.arrived_s`, if it sends one and an output asked for it. view: the part of its picture
    that its frames are.
    """

    name: str
    slug: str
    live: bool
    frame_rate: float | None = None
    expected_frames: int | None = None
    device: str = ""
    packets: PacketRing | None = None
    view: View = WHOLE


class Output:
    """Base class that ignores everything; an output overrides the methods it needs.

    All methods are called from the run's thread. Their arguments never change afterwards, so an
    output may keep them; it holds no reference to the run itself.

    done: nobody reads the output any more, so that the run can stop. health: of an output that can
    fail while the run goes on; None: of one that cannot.
    """

    done = False
    health: OutputHealth | None = None

    def begin(self, source: SourceInfo) -> None:
        """A source is about to be read. Called before any other method for that source."""

    def on_label(self, label: Label) -> None:
        """The next label of its source."""

    def on_event(self, event: Event) -> None:
        """An action has started or ended. Called after the label that caused it."""

    def on_source_state(self, state: SourceState) -> None:
        """A camera is running or lost, or a source has failed for good."""

    def on_output_state(self, state: OutputState) -> None:
        """An output of this run, maybe this one, has begun to work, to fail or to work again."""

    def on_bundle(self, bundle: Bundle) -> None:
        """Labels from now on are of another bundle, which has the same actions and streams."""

    def on_statistics(self, statistics: SourceStatistics) -> None:
        """Counts and stage times of a source so far; called about twice a second."""

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
        """The source of this name has ended. summary: see edge.outputs.records.summary_record;
        None if the source was not read to its end."""

    def finish(self) -> None:
        """The run has ended regularly: files get their final names."""

    def close(self) -> None:
        """Release everything, with or without `finish` before."""

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
