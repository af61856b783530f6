"""Files of a run: labels as JSON lines, and what was seen as videos with the labels drawn on it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from edge.bundle import Manifest
from edge.errors import SinkError
from edge.flow.stack import FlowBytes, to_pixels
from edge.fusion import UNKNOWN
from edge.listener import Listener, Notice
from edge.overlay import OverlayView, Picture, bgr_picture, draw_overlay
from edge.report import best, label_record, notice_record
from edge.runtime import Label
from edge.segments import Segments
from edge.sink import JsonLines, VideoWriter, check_video

FLOW_PICTURE_PX = 112  # about the side of the flow picture; it is thinned to that before drawing


class Records(Listener):
    """One JSON line a label, a notice, a summary; `finish` at a good end."""

    def __init__(self, path: str, segments: Segments, classes: tuple[str, ...]) -> None:
        self._given = None if path == "-" else Path(path)
        self._segments, self._classes = segments, classes
        self._lines: JsonLines | None = None
        self._began_s = 0.0
        self._unread = False

    def __enter__(self) -> Records:
        self._open()
        return self

    def show(self, label: Label) -> None:
        self.write(label_record(label, self._classes))

    def tell(self, notice: Notice) -> None:
        self.write(notice_record(notice))

    def write(self, record: dict[str, Any]) -> None:
        assert self._lines is not None
        every_s = self._segments.every_s
        if self._given and every_s is not None and time.monotonic() - self._began_s >= every_s:
            self.finish()
            self._open()
        if not self._lines.write(record) and not self._unread:
            self._unread = True  # a second signal would not be a request any more
            signal.raise_signal(signal.SIGTERM)

    def finish(self) -> None:
        assert self._lines is not None
        self._lines.finish()
        self._lines.__exit__(None, None, None)

    def _open(self) -> None:
        path = self._given and self._segments.name(self._given, "")
        if self._given is not None and path is not None:
            self._segments.prune(self._given, {""}, {path})
        self._lines = JsonLines(path or "-")
        self._lines.__enter__()
        self._began_s = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lines is not None:
            self._lines.__exit__(kind, fault, trace)


@dataclass(slots=True)
class _Film:
    """The video that is being written of a source. began_s: stream time of its first picture."""

    path: Path
    size_hw: tuple[int, int]
    began_s: float
    writer: VideoWriter
    closing: ExitStack

    def finish(self) -> None:
        self.writer.finish()
        self.closing.close()


class Videos(Listener):
    """The videos of all sources; each begins with its source's first label. `finish` at a good end.

    slugs: by source, empty where there is one alone. rate_of: frames a second, by source.
    """

    def __init__(
        self,
        path: Path,
        segments: Segments,
        slugs: Mapping[str, str],
        rate_of: Callable[[str], float],
        draw: Callable[[Label], Picture],
    ) -> None:
        self._given, self._segments, self._slugs = path, segments, slugs
        self._rate_of, self._draw = rate_of, draw
        self._films: dict[str, _Film] = {}

    def __enter__(self) -> Videos:
        check_video(self._given)
        return self

    def show(self, label: Label) -> None:
        film, time_s = self._films.get(label.source), label.frame.time_s
        every_s = self._segments.every_s
        if film is not None and every_s is not None and time_s - film.began_s >= every_s:
            self.end(label.source)
            film = None
        picture = self._draw(label)
        if film is None:
            film = self._open(label.source, picture, time_s)
        if picture.shape[:2] != film.size_hw:  # the camera has come back with another size
            height, width = film.size_hw
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        film.writer.write(picture, time_s - film.began_s)

    def end(self, source: str) -> None:
        film = self._films.pop(source, None)
        if film is not None:
            film.finish()

    def finish(self) -> None:
        for source in list(self._films):
            self.end(source)

    def _open(self, source: str, picture: Picture, time_s: float) -> _Film:
        path = self._segments.name(self._given, self._slugs.get(source, ""))
        slugs = set(self._slugs.values()) or {""}
        opened = {film.path for film in self._films.values()} | {path}
        self._segments.prune(self._given, slugs, opened)
        size_hw = (picture.shape[0], picture.shape[1])
        writer = VideoWriter(path, size_hw, self._rate_of(source))
        closing = ExitStack()
        closing.enter_context(writer)
        film = self._films[source] = _Film(path, size_hw, time_s, writer, closing)
        return film

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for film in self._films.values():
            film.closing.__exit__(kind, fault, trace)


class Artist(Listener):
    """Draws a label on its frame, once for all who ask, from whichever thread."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._lock = threading.Lock()
        self._drawn: dict[str, tuple[Label, Picture]] = {}  # the last of each source

    def __call__(self, label: Label) -> Picture:
        """(H, W, 3) BGR, not to be drawn on."""
        with self._lock:
            known = self._drawn.get(label.source)
            if known is not None and known[0] is label:
                return known[1]
            picture = bgr_picture(label.frame)
            draw_overlay(picture, self._view(label))
            self._drawn[label.source] = (label, picture)
            return picture

    def end(self, source: str) -> None:
        with self._lock:
            self._drawn.pop(source, None)

    def _view(self, label: Label) -> OverlayView:
        classes, decision = self._manifest.classes, label.decision
        known = decision is not None and decision.label != UNKNOWN
        spatial, temporal = best(label.spatial, classes), best(label.temporal, classes)
        return OverlayView(
            state=label.state,
            label=decision.label if decision is not None and known else None,
            score=decision.score if decision is not None else 0.0,
            spatial=spatial,
            temporal=temporal,
            flow=None if label.flow is None else self._thinned(label.flow),
            status=f"{label.frame.time_s:.1f} s   {label.latency_ms:.0f} ms",
        )

    def _thinned(self, flow: FlowBytes) -> np.ndarray:
        step = max(flow.shape[1] // FLOW_PICTURE_PX, 1)
        return to_pixels(flow[:, ::step, ::step], self._manifest.flow)


def check_outputs(outputs: Sequence[tuple[str, Path]], sources: Sequence[str]) -> None:
    """outputs: each file that will be written, and by which option.

    Raises SinkError where one would take the place of a source or of another.
    """
    taken = {Path(source).resolve(): "the source" for source in sources}
    for option, name in outputs:
        path = name.resolve()
        if path in taken:
            raise SinkError(f"{name}: is {taken[path]} already; give {option} another name")
        taken[path] = f"the output of {option}"
