"""Records the annotated video of each source."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from edge.decision.label import Label
from edge.outputs.base import Output, SourceInfo
from edge.outputs.overlay import Picture
from edge.outputs.rotation import Segments
from edge.outputs.video_writer import VideoWriter, check_video
from edge.sources.reconnect import SourceState


@dataclass(slots=True)
class _Recording:
    """The video file of a source that is being written. began_s: stream time of its first frame."""

    path: Path
    size_hw: tuple[int, int]
    began_s: float
    writer: VideoWriter
    closing: ExitStack

    def finish(self) -> None:
        self.writer.finish()
        self.closing.close()


class VideoRecorder(Output):
    """Records a video for each source, starting with its first label.

    several: whether files are named after their sources. default_rate: frames a second, for sources
    without a known rate. draw: returns (H, W, 3) BGR, which must not be changed.
    """

    def __init__(
        self,
        path: Path,
        segments: Segments,
        several: bool,
        default_rate: float,
        draw: Callable[[Label], Picture],
    ) -> None:
        self._path, self._segments, self._several = path, segments, several
        self._default_rate, self._draw = default_rate, draw
        self._slugs: dict[str, str] = {}
        self._rates: dict[str, float] = {}
        self._recordings: dict[str, _Recording] = {}

    def __enter__(self) -> VideoRecorder:
        check_video(self._path)
        return self

    def begin(self, source: SourceInfo) -> None:
        self._slugs[source.name] = source.slug if self._several else ""
        self._rates[source.name] = source.frame_rate or self._default_rate

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
        if picture.shape[:2] != recording.size_hw:  # the camera reconnected with another size
            height, width = recording.size_hw
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        recording.writer.write(picture, time_s - recording.began_s)

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
        if summary is not None:
            self._finish(source)
        elif (recording := self._recordings.pop(source, None)) is not None:
            recording.closing.close()  # incomplete, so it keeps the name NAME.part

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
        path = self._segments.name(self._path, self._slugs[source])
        open_files = {recording.path for recording in self._recordings.values()} | {path}
        self._segments.prune(self._path, set(self._slugs.values()), open_files)
        size_hw = (picture.shape[0], picture.shape[1])
        writer = VideoWriter(path, size_hw, self._rates[source])
        closing = ExitStack()
        closing.enter_context(writer)
        recording = _Recording(path, size_hw, time_s, writer, closing)
        self._recordings[source] = recording
        return recording
