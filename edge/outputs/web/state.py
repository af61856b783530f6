"""What a run has to show: kept by the loop, read by whoever looks."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2

from edge.bundle.manifest import Manifest
from edge.decision.events import Event
from edge.decision.fusion import top_scores
from edge.decision.label import Label
from edge.decision.statistics import SourceStatistics
from edge.outputs.base import Output, SourceInfo
from edge.outputs.overlay import Picture
from edge.outputs.records import event_record, state_record
from edge.outputs.web.metrics import SourceMetrics
from edge.sources.reconnect import SourceState

EVENTS_KEPT = 200
STALE_S = 5.0  # without a label for so long a source is not healthy
_QUALITY = 80
_TOP = 5


@dataclass
class _Seen:
    """What has been seen of one source. number: of its labels; packed: the number of the picture
    that was packed last, and it as JPEG."""

    name: str
    state: SourceState
    label: Label | None = None
    statistics: SourceStatistics | None = None
    number: int = 0
    seen_s: float = field(default_factory=time.monotonic)
    losses: int = 0
    starts: Counter[str] = field(default_factory=Counter)
    packed: tuple[int, bytes] = (0, b"")

    @property
    def healthy(self) -> bool:
        return time.monotonic() - self.seen_s < STALE_S


class LiveState(Output):
    """Written by the run's thread; everything else may be asked from any.

    A picture is drawn and packed only where somebody looks, and once for all who do.
    """

    def __init__(self, manifest: Manifest, draw: Callable[[Label], Picture]) -> None:
        self._classes, self._streams, self._draw = manifest.classes, tuple(manifest.streams), draw
        self._news = threading.Condition()
        self._drawing = threading.Lock()
        self._sources: dict[str, _Seen] = {}
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self._began_s = time.monotonic()

    def begin(self, source: SourceInfo) -> None:
        with self._news:
            self._sources[source.name] = _Seen(source.name, SourceState(source.name, "running"))

    def on_label(self, label: Label) -> None:
        with self._news:
            seen = self._sources[label.source]
            seen.label, seen.number, seen.seen_s = label, seen.number + 1, time.monotonic()
            self._news.notify_all()

    def on_event(self, event: Event) -> None:
        with self._news:
            self._sources[event.source].starts[event.label] += event.kind == "start"
            self._events.append(event_record(event) | {"clock": time.time()})

    def on_source_state(self, state: SourceState) -> None:
        with self._news:
            seen = self._sources[state.name]
            seen.losses += state.state == "lost" and seen.state.state == "running"
            seen.state = state
            self._events.append(state_record(state) | {"clock": time.time()})

    def on_statistics(self, statistics: SourceStatistics) -> None:
        with self._news:
            self._sources[statistics.source].statistics = statistics

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
        with self._news:
            self._sources.pop(source, None)

    def name_of(self, source: str) -> str | None:
        """The name of a source that has begun and not ended, else None; "" is the first one."""
        with self._news:
            seen = self._look_up(source)
            return None if seen is None else seen.name

    def picture(self, source: str, after: int, timeout_s: float) -> tuple[int, bytes] | None:
        """The newest picture of a source as (its number, JPEG) once there is another than number
        `after`; "" is the first source."""

        def news() -> bool:
            seen = self._look_up(source)
            return seen is not None and seen.number != after

        with self._news:
            self._news.wait_for(news, timeout_s)
            seen = self._look_up(source)
            if seen is None or seen.label is None or seen.number == after:
                return None
            number, label = seen.number, seen.label
        with self._drawing:
            if seen.packed[0] < number:
                known, data = cv2.imencode(
                    ".jpg", self._draw(label), (cv2.IMWRITE_JPEG_QUALITY, _QUALITY)
                )
                seen.packed = (number, data.tobytes() if known else b"")
            return seen.packed

    def healthy(self) -> bool:
        """Whether labels come from every source; at the start they have some time for it."""
        with self._news:
            if not self._sources:
                return time.monotonic() - self._began_s < STALE_S
            return all(seen.healthy for seen in self._sources.values())

    def record(self) -> dict[str, Any]:
        """For the page."""
        with self._news:
            sources, events = list(self._sources.values()), list(self._events)
        return {
            "sources": [self._record(seen) for seen in sources],
            "events": events,
            "clock": time.time(),
        }

    def _record(self, seen: _Seen) -> dict[str, Any]:
        label, classes = seen.label, self._classes
        decision = label.decision if label is not None else None
        streams = label.streams if label is not None else {}
        return {
            "name": seen.name,
            "source_state": {"state": seen.state.state, "reason": seen.state.reason},
            "state": label.state if label is not None else "starting",
            "label": decision.label if decision is not None else None,
            "score": round(decision.score, 4) if decision is not None else None,
            "top": top_scores(decision.scores, classes, _TOP) if decision is not None else [],
            "streams": {
                name: top_scores(streams[name], classes, _TOP) if name in streams else []
                for name in self._streams
            },
            "latency_ms": round(label.latency_ms, 1) if label is not None else None,
            "counts": _counts(seen),
        }

    def metrics(self) -> list[SourceMetrics]:
        with self._news:
            return [
                SourceMetrics(
                    seen.name,
                    seen.state.state == "running" and seen.healthy,
                    seen.losses,
                    dict(seen.starts),
                    seen.statistics,
                )
                for seen in self._sources.values()
            ]

    def _look_up(self, source: str) -> _Seen | None:
        if not source:
            return next(iter(self._sources.values()), None)
        return self._sources.get(source)


def _counts(seen: _Seen) -> dict[str, int]:
    known = seen.statistics
    if known is None:
        return {}
    return {
        "received": known.received,
        "labelled": known.labelled,
        "dropped": known.dropped,
        "damaged": known.damaged,
        "gaps": known.gaps,
        "standby": known.standby,
        "losses": seen.losses,
    }
