"""The state of a run for the live page: written by the run, read by the web server."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edge.bundle.manifest import Manifest
from edge.decision.events import Event
from edge.decision.fusion import top_scores
from edge.decision.label import Label
from edge.decision.statistics import SourceStatistics
from edge.outputs.base import Output, SourceInfo
from edge.outputs.events.event_store import EventStore
from edge.outputs.health import OutputState
from edge.outputs.jpeg import jpeg_bytes
from edge.outputs.overlay import Picture, bgr_picture
from edge.outputs.records import (
    event_record,
    open_set_record,
    output_record,
    state_record,
)
from edge.outputs.web.metrics import SourceMetrics
from edge.sources.reconnect import SourceState

EVENTS_KEPT = 200
STALE_S = 5.0  # a source without a label for this long is not healthy
HANGS_S = 30.0  # a run of which nothing was heard for this long; counts come twice a second
_TOP = 5


@dataclass
class _Latest:
    """What is known of one source. number: of labels so far; packed: the number of the label whose
    picture was compressed last, and that picture as JPEG."""

    info: SourceInfo
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
    """Written by the run's thread; its other methods are thread-safe.

    A picture is drawn and compressed only if there are viewers, and once for all of them.
    """

    def __init__(
        self,
        manifest: Manifest,
        draw: Callable[[Label], Picture],
        store: EventStore | None = None,
    ) -> None:
        """draw: returns (H, W, 3) BGR. store: of the recorded events; None: none are recorded."""
        self.store = store
        self._heard_s: float | None = None  # when the run last reported; None: it has not begun
        self._classes, self._streams, self._draw = manifest.classes, tuple(manifest.streams), draw
        self._news = threading.Condition()
        self._drawing = threading.Lock()
        self._sources: dict[str, _Latest] = {}
        self._outputs: dict[str, OutputState] = {}  # by name
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT)

    def begin(self, source: SourceInfo) -> None:
        with self._news:
            self._heard_s = time.monotonic()
            self._sources[source.name] = _Latest(source, SourceState(source.name, "running"))

    def on_label(self, label: Label) -> None:
        with self._news:
            latest = self._sources[label.source]
            latest.label, latest.number, latest.seen_s = label, latest.number + 1, time.monotonic()
            self._heard_s = latest.seen_s
            self._news.notify_all()

    def on_event(self, event: Event) -> None:
        with self._news:
            self._sources[event.source].starts[event.label] += event.kind == "start"
            self._events.append(event_record(event) | {"clock": time.time()})

    def on_source_state(self, state: SourceState) -> None:
        with self._news:
            latest = self._sources[state.name]
            latest.losses += state.state == "lost" and latest.state.state == "running"
            latest.state = state
            self._events.append(state_record(state) | {"clock": time.time()})

    def on_output_state(self, state: OutputState) -> None:
        with self._news:
            known = state.name in self._outputs
            self._outputs[state.name] = state
            if known:  # that all work at the start goes without saying
                self._events.append(output_record(state) | {"clock": time.time()})

    def on_statistics(self, statistics: SourceStatistics) -> None:
        with self._news:
            self._sources[statistics.source].statistics = statistics
            self._heard_s = time.monotonic()

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
        with self._news:
            self._sources.pop(source, None)

    def name_of(self, source: str) -> str | None:
        """The name of an open source, else None. source: "" is the first one."""
        with self._news:
            latest = self._look_up(source)
            return None if latest is None else latest.info.name

    def picture(self, source: str, after: int, timeout_s: float) -> tuple[int, bytes] | None:
        """The newest picture of a source as (number, JPEG), or None if there is none with another
        number than `after` within `timeout_s`. source: "" is the first one."""

        def news() -> bool:
            latest = self._look_up(source)
            return latest is not None and latest.number != after

        with self._news:
            self._news.wait_for(news, timeout_s)
            latest = self._look_up(source)
            if latest is None or latest.label is None or latest.number == after:
                return None
            number, label = latest.number, latest.label
        with self._drawing:
            if latest.packed[0] < number:
                latest.packed = (number, jpeg_bytes(self._draw(label)))
            return latest.packed

    def bare_picture(self, source: str) -> bytes | None:
        """The newest picture of a source as JPEG, without its labels: the part of it that its
        `view` leaves. None: there is none yet."""
        with self._news:
            latest = self._look_up(source)
            label = None if latest is None else latest.label
        return None if label is None else jpeg_bytes(bgr_picture(label.frame))

    def alive(self) -> bool:
        """Whether the run goes on: it reports, or is still loading what it needs."""
        with self._news:
            return self._heard_s is None or time.monotonic() - self._heard_s < HANGS_S

    def ready(self) -> bool:
        """Whether there are sources, and each gave a label in the last STALE_S."""
        with self._news:
            known = self._sources.values()
            return bool(known) and all(latest.number and latest.healthy for latest in known)

    def record(self) -> dict[str, Any]:
        """The content of /state.json."""
        with self._news:
            sources, events = list(self._sources.values()), list(self._events)
            outputs = list(self._outputs.values())
        return {
            "sources": [self._record(latest) for latest in sources],
            "outputs": [output_record(state) for state in outputs],
            "events": [self._with_recorded(event) for event in events],
            "records_events": self.store is not None,
            "clock": time.time(),
        }

    def _with_recorded(self, event: dict[str, Any]) -> dict[str, Any]:
        """The event, and whether there is a folder of it."""
        recorded = self.store is not None and event["id"] in self.store.written
        return event | {"recorded": True} if recorded else event

    def _record(self, latest: _Latest) -> dict[str, Any]:
        label, classes = latest.label, self._classes
        decision = label.decision if label is not None else None
        streams = label.streams if label is not None else {}
        return {
            "name": latest.info.name,
            "source_state": {"state": latest.state.state, "reason": latest.state.reason},
            "state": label.state if label is not None else "starting",
            "reason": label.reason if label is not None else "",
            "label": decision.label if decision is not None else None,
            "score": round(decision.score, 4) if decision is not None else None,
            "open_set": open_set_record(decision, classes),
            "top": top_scores(decision.scores, classes, _TOP) if decision is not None else [],
            "streams": {
                name: top_scores(streams[name], classes, _TOP) if name in streams else []
                for name in self._streams
            },
            "latency_ms": round(label.latency_ms, 1) if label is not None else None,
            "counts": _counts(latest),
            "view": {"region": latest.info.view.region, "mask": latest.info.view.mask},
        }

    def metrics(self) -> list[SourceMetrics]:
        with self._news:
            return [
                SourceMetrics(
                    latest.info.name,
                    latest.state.state == "running" and latest.healthy,
                    latest.losses,
                    dict(latest.starts),
                    latest.statistics,
                )
                for latest in self._sources.values()
            ]

    def working(self) -> dict[str, bool]:
        """Whether each output works, by name."""
        with self._news:
            return {name: state.state == "working" for name, state in self._outputs.items()}

    def _look_up(self, source: str) -> _Latest | None:
        if not source:
            return next(iter(self._sources.values()), None)
        return self._sources.get(source)


def _counts(latest: _Latest) -> dict[str, int]:
    """lost_NAME: by the output of that name."""
    statistics = latest.statistics
    if statistics is None:
        return {}
    return {
        "received": statistics.received,
        "labelled": statistics.labelled,
        "dropped": statistics.dropped,
        "damaged": statistics.damaged,
        "gaps": statistics.gaps,
        "standby": statistics.standby,
        "losses": latest.losses,
        **{f"lost_{output}": count for output, count in statistics.lost.items()},
    }
