"""Files of a run: labels as JSON lines, and what was seen as videos with the labels drawn on it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.bundle import Manifest
from edge.errors import SinkError
from edge.events import Event
from edge.flow.stack import FlowBytes, to_pixels
from edge.fusion import UNKNOWN
from edge.listener import Output, SourceInfo
from edge.overlay import OverlayView, Picture, bgr_picture, draw_overlay
from edge.report import best, event_record, label_record, state_record
from edge.runtime import Label
from edge.segments import Segments
from edge.sink import JsonLines, VideoWriter, check_video
from edge.supervisor import SourceState

FLOW_PICTURE_PX = 112  # about the side of the flow picture; it is thinned to that before drawing


class JsonLinesOutput(Output):
    """One JSON line a label, an event, a change of state, a summary."""

    def __init__(self, path: str, segments: Segments, classes: tuple[str, ...]) -> None:
        self._given = None if path == "-" else Path(path)
        self._segments, self._classes = segments, classes
        self._lines: JsonLines | None = None
        self._began_s = 0.0

    def __enter__(self) -> JsonLinesOutput:
        self._open()
        return self

    def on_label(self, label: Label) -> None:
        self._write(label_record(label, self._classes))

    def on_event(self, event: Event) -> None:
        self._write(event_record(event))

    def on_source_state(self, state: SourceState) -> None:
        self._write(state_record(state))

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
        if summary is not None:
            self._write({"summary": summary})

    def _write(self, record: dict[str, Any]) -> None:
        assert self._lines is not None
        every_s = self._segments.every_s
        if self._given and every_s is not None and time.monotonic() - self._began_s >= every_s:
            self.finish()
            self._open()
        if not self._lines.write(record):
            self.done = True

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

    def close(self) -> None:
        if self._lines is not None:
            self._lines.__exit__(None, None, None)


@dataclass(slots=True)
class _Recording:
    """The video that is being written of a source. began_s: stream time of its first picture."""

    path: Path
    size_hw: tuple[int, int]
    began_s: float
    writer: VideoWriter
    closing: ExitStack

    def finish(self) -> None:
        self.writer.finish()
        self.closing.close()


class VideoRecorder(Output):
    """The videos of all sources; each begins with its source's first label.

    several: whether files are named after their sources. usual_rate: frames a second of sources
    that do not name a rate. draw: (H, W, 3) BGR, not to be drawn on.
    """

    def __init__(
        self,
        path: Path,
        segments: Segments,
        several: bool,
        usual_rate: float,
        draw: Callable[[Label], Picture],
    ) -> None:
        self._given, self._segments, self._several = path, segments, several
        self._usual_rate, self._draw = usual_rate, draw
        self._slugs: dict[str, str] = {}
        self._rates: dict[str, float] = {}
        self._recordings: dict[str, _Recording] = {}

    def __enter__(self) -> VideoRecorder:
        check_video(self._given)
        return self

    def begin(self, source: SourceInfo) -> None:
        self._slugs[source.name] = source.slug if self._several else ""
        self._rates[source.name] = source.frame_rate or self._usual_rate

    def on_source_state(self, state: SourceState) -> None:
        if state.frame_rate:
            self._rates[state.name] = state.frame_rate

    def on_label(self, label: Label) -> None:
        recording, time_s = self._recordings.get(label.source), label.frame.time_s
        every_s = self._segments.every_s
        if recording and every_s is not None and time_s - recording.began_s >= every_s:
            self._finish(label.source)
            recording = None
        picture = self._draw(label)
        if recording is None:
            recording = self._open(label.source, picture, time_s)
        if picture.shape[:2] != recording.size_hw:  # the camera has come back with another size
            height, width = recording.size_hw
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        recording.writer.write(picture, time_s - recording.began_s)

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
        if summary is not None:
            self._finish(source)
        elif (recording := self._recordings.pop(source, None)) is not None:
            recording.closing.close()  # it is not whole, and keeps the name that says so

    def finish(self) -> None:
        for source in list(self._recordings):
            self._finish(source)

    def close(self) -> None:
        for recording in self._recordings.values():
            recording.closing.close()

    def _finish(self, source: str) -> None:
        recording = self._recordings.pop(source, None)
        if recording is not None:
            recording.finish()

    def _open(self, source: str, picture: Picture, time_s: float) -> _Recording:
        path = self._segments.name(self._given, self._slugs[source])
        opened = {recording.path for recording in self._recordings.values()} | {path}
        self._segments.prune(self._given, set(self._slugs.values()), opened)
        size_hw = (picture.shape[0], picture.shape[1])
        writer = VideoWriter(path, size_hw, self._rates[source])
        closing = ExitStack()
        closing.enter_context(writer)
        recording = _Recording(path, size_hw, time_s, writer, closing)
        self._recordings[source] = recording
        return recording


class Annotator(Output):
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

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
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
    # realpath, since Path.resolve raises at a link that leads to itself
    taken = {os.path.realpath(source): "the source" for source in sources}
    for option, name in outputs:
        path = os.path.realpath(name)
        if path in taken:
            raise SinkError(f"{name}: is {taken[path]} already; give {option} another name")
        taken[path] = f"the output of {option}"
