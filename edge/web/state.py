"""What a run has to show: kept by the loop, read by whoever looks."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from edge.bundle import Manifest
from edge.events import Event
from edge.overlay import Picture
from edge.report import STAGES, notice_record
from edge.runtime import Label, Recogniser
from edge.source import Source
from edge.supervisor import CameraState, Supervised

EVENTS_KEPT = 200
STALE_S = 5.0  # without a label for so long the run is not healthy
_QUALITY = 80
_TOP = 5


class LiveState:
    """Takes labels and notices from the loop's thread; everything else may be asked from any.

    A picture is drawn and packed only where somebody looks, and once for all who do.
    """

    def __init__(
        self,
        manifest: Manifest,
        source: Source | Supervised,
        name: str,
        recogniser: Recogniser,
        draw: Callable[[Label], Picture],
    ) -> None:
        self.manifest, self.name = manifest, name
        self._source, self._recogniser, self._draw = source, recogniser, draw
        self._news = threading.Condition()
        self._drawing = threading.Lock()
        self._label: Label | None = None
        self._number = 0
        self._seen_s = time.monotonic()
        self._camera = CameraState(name, "running")
        self._losses = 0
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self._starts: Counter[str] = Counter()
        self._packed = (0, b"")

    def show(self, label: Label) -> None:
        with self._news:
            self._label, self._number, self._seen_s = label, self._number + 1, time.monotonic()
            self._news.notify_all()

    def tell(self, notice: Event | CameraState) -> None:
        with self._news:
            if isinstance(notice, Event):
                self._starts[notice.label] += notice.kind == "start"
            else:
                self._losses += notice.state == "lost" and self._camera.state == "running"
                self._camera = notice
            self._events.append(notice_record(notice) | {"clock": time.time()})

    def picture(self, after: int, timeout_s: float) -> tuple[int, bytes] | None:
        """The newest picture as (its number, JPEG) once there is one later than `after`."""
        with self._news:
            self._news.wait_for(lambda: self._number > after, timeout_s)
            number, label = self._number, self._label
        if label is None or number <= after:
            return None
        with self._drawing:
            if self._packed[0] < number:
                known, data = cv2.imencode(
                    ".jpg", self._draw(label), (cv2.IMWRITE_JPEG_QUALITY, _QUALITY)
                )
                self._packed = (number, data.tobytes() if known else b"")
            return self._packed

    def healthy(self) -> bool:
        """Whether labels come."""
        return time.monotonic() - self._seen_s < STALE_S

    def record(self) -> dict[str, Any]:
        """For the page."""
        with self._news:
            label, camera, events = self._label, self._camera, list(self._events)
        decision = label.decision if label is not None else None
        classes = self.manifest.classes
        streams = {} if label is None else {"spatial": label.spatial, "temporal": label.temporal}
        return {
            "camera": {"name": self.name, "state": camera.state, "reason": camera.reason},
            "state": label.state if label is not None else "starting",
            "label": decision.label if decision is not None else None,
            "score": round(decision.score, 4) if decision is not None else None,
            "top": decision.top(classes, _TOP) if decision is not None else [],
            "streams": {
                name: [] if scores is None else _best(scores, classes)
                for name, scores in streams.items()
            },
            "latency_ms": round(label.latency_ms, 1) if label is not None else None,
            "counts": self._counts(),
            "events": events,
            "clock": time.time(),
        }

    def _counts(self) -> dict[str, int]:
        statistics = self._recogniser.statistics
        return {
            "received": self._source.received,
            "labelled": statistics.decisions,
            "dropped": self._source.dropped,
            "damaged": self._source.damaged,
            "gaps": statistics.gaps,
            "losses": self._losses,
        }

    def metrics(self) -> str:
        """In Prometheus' text format."""
        camera = f'camera="{_escaped(self.name)}"'
        lines = []
        for name, value in self._counts().items():
            lines += [
                f"# TYPE twostream_{name}_total counter",
                f"twostream_{name}_total{{{camera}}} {value}",
            ]
        up = int(self._camera.state == "running" and self.healthy())
        lines += ["# TYPE twostream_up gauge", f"twostream_up{{{camera}}} {up}"]
        lines.append("# TYPE twostream_actions_total counter")
        with self._news:
            starts = sorted(self._starts.items())
        lines += [
            f'twostream_actions_total{{{camera},action="{_escaped(action)}"}} {count}'
            for action, count in starts
        ]
        lines.append("# TYPE twostream_stage_seconds summary")
        for stage in STAGES:
            histogram = self._recogniser.statistics.stages_ms.get(stage)
            if histogram is None:
                continue
            lines += [
                f'twostream_stage_seconds{{{camera},stage="{stage}",quantile="{share}"}} '
                f"{histogram.quantile(share) / 1e3:.6f}"
                for share in (0.5, 0.95, 0.99)
            ]
        return "\n".join(lines) + "\n"


def _best(scores: np.ndarray, classes: tuple[str, ...]) -> list[tuple[str, float]]:
    order = np.argsort(-scores, kind="stable")[:_TOP]
    return [(classes[index], round(float(scores[index]), 4)) for index in order]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
