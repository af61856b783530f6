"""One event while it is recorded: from some seconds before its action to some after it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from edge.decision.decide import Decision
from edge.decision.events import Event
from edge.decision.fusion import Scores
from edge.decision.label import Label
from edge.video.packets import Packet, PacketRing

LONGEST_S = 120.0  # of a clip, with the seconds before


@dataclass(frozen=True, slots=True)
class Moment:
    """What the networks said of one frame. streams: the scores (C,) of each stream, by name."""

    time_s: float
    decision: Decision
    streams: Mapping[str, Scores]
    latency_ms: float

    def record(self, index: int) -> dict[str, Any]:
        """Of the class `index`; beside it the label that was shown."""
        return {
            "time": round(self.time_s, 4),
            "label": self.decision.label,
            "score": round(float(self.decision.scores[index]), 4),
            "open_set": round(float(self.decision.open_set[index]), 4),
            "streams": {
                name: round(float(scores[index]), 4) for name, scores in self.streams.items()
            },
            "latency_ms": round(self.latency_ms, 2),
        }


def moment_of(label: Label) -> Moment | None:
    """None: the label has no decision."""
    if label.decision is None:
        return None
    return Moment(label.frame.time_s, label.decision, label.streams, label.latency_ms)


@dataclass
class Recording:
    """event: its start. index: of its action among the classes. ring: that has the clip; stream:
    the number of the stream in it. from_s: stream time at which the clip should begin. offset_s:
    from stream time to the ring's. best: the label with the highest score so far, None once
    `picture` is drawn. ended_s: stream time of its end.
    """

    event: Event
    index: int
    ring: PacketRing
    stream: int
    from_s: float
    offset_s: float
    best: Label | None
    latency_ms: float
    moments: list[Moment]
    clock_s: float = field(default_factory=time.time)
    best_s: float = 0.0
    best_score: float = -1.0
    picture: bytes = b""
    ended_s: float | None = None
    score: float = 0.0

    def __post_init__(self) -> None:
        self.score = self.event.score
        if self.best is not None:
            self.see(self.best)

    def add(self, label: Label) -> None:
        """The next label of its source."""
        if (moment := moment_of(label)) is not None:
            self.moments.append(moment)
            if self.ended_s is None:
                self.see(label)

    def see(self, label: Label) -> None:
        """Keep the label if its action's score is the highest so far."""
        score = float(label.decision.scores[self.index]) if label.decision else -1.0
        if score > self.best_score:
            self.best, self.best_score, self.best_s = label, score, label.frame.time_s

    @property
    def begin(self) -> float:
        """When the clip should begin, on the ring's clock."""
        return self.from_s + self.offset_s

    def caught_up(self, to_s: float) -> bool:
        """Whether the ring has all up to a stream time."""
        newest_s = self.ring.newest_s
        return self.ring.stream != self.stream or (
            newest_s is not None and newest_s >= to_s + self.offset_s
        )

    def packets(self, to_s: float) -> list[Packet]:
        return self.ring.between(self.begin, to_s + self.offset_s, self.stream)

    def record(
        self, cut: str | None, packets: list[Packet], more: Mapping[str, Any]
    ) -> dict[str, Any]:
        """event.json, without the length of the clip. cut: why the clip ends before it should."""
        event, decision = self.event, self.moments[-1].decision
        clip: dict[str, Any] | None = None
        if packets:
            clip = {
                "begins": round(packets[0].time_s - self.offset_s, 4),
                "codec": packets[0].caps.partition(",")[0].removeprefix("video/x-"),
            }
        clock = datetime.fromtimestamp(self.clock_s, timezone.utc)
        return {
            "id": event.id,
            "source": event.source,
            "label": event.label,
            "started": round(event.started_s, 4),
            "reported": round(event.time_s, 4),
            "ended": None if self.ended_s is None else round(self.ended_s, 4),
            "clock": clock.isoformat(timespec="milliseconds"),
            "score": round(self.score, 4),
            "threshold": None if decision.threshold is None else round(decision.threshold, 4),
            "best": {"time": round(self.best_s, 4), "score": round(self.best_score, 4)},
            "latency_ms": round(self.latency_ms, 2),
            "clip": clip,
            "cut": cut,
            **more,
            "scores": [moment.record(self.index) for moment in self.moments],
        }


def earliest(recordings: Iterable[Recording], ring: PacketRing) -> float | None:
    """When the first of the clips from this ring begins, on its clock."""
    return min((each.begin for each in recordings if each.ring is ring), default=None)
