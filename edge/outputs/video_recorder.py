"""Records the annotated video of each source."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from edge.decision.label import Label
from edge.errors import OutputError
from edge.outputs.base import Output, SourceInfo
from edge.outputs.health import OutputHealth
from edge.outputs.overlay import Picture
from edge.outputs.picture_encoder import choose_encoder
from edge.outputs.rotation import Segments
from edge.outputs.video_writer import VideoWriter, check_video
from edge.outputs.write_faults import WriteFaults
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
        with self.closing:
            self.writer.finish()


class _Names:
    """The names of the files of each source. several: whether they have the source's in them."""

    def __init__(self, path: Path, segments: Segments, several: bool) -> None:
        self._path, self._segments, self._several = path, segments, several
        self._slugs: dict[str, str] = {}
        self._begun: set[str] = set()  # slugs that have had a file in this run

    def add(self, source: SourceInfo) -> None:
        self._slugs[source.name] = source.slug if self._several else ""

    def next(self, source: str, open_files: set[Path]) -> Path:
        """The next file of a source; old files are deleted to make room for it."""
        slug = self._slugs[source]
        path = self._segments.name(self._path, slug, slug in self._begun)
        self._segments.prune(self._path, set(self._slugs.values()), open_files | {path})
        self._begun.add(slug)
        return path


class VideoRecorder(Output):
    """Records a video for each source, starting with its first label.

    several: whether files are named after their sources. default_rate: frames a second, for sources
    without a known rate. draw: returns (H, W, 3) BGR, which must not be changed. goes_on: whether
    the run does where a file cannot be written, see edge.outputs.write_faults.
    """

    health: OutputHealth

    def __init__(
        self,
        path: Path,
        segments: Segments,
        several: bool,
        default_rate: float,
        draw: Callable[[Label], Picture],
        goes_on: bool,
    ) -> None:
        self._path, self._every_s = path, segments.every_s
        self._names = _Names(path, segments, several)
        self._default_rate, self._draw = default_rate, draw
        self.health = OutputHealth("video", "frames not recorded")
        self._faults = WriteFaults(self.health, goes_on)
        self._rates: dict[str, float] = {}
        self._recordings: dict[str, _Recording] = {}

    def __enter__(self) -> VideoRecorder:
        check_video(self._path)
        return self

    def begin(self, source: SourceInfo) -> None:
        self._names.add(source)
        self._rates[source.name] = source.frame_rate or self._default_rate

    def on_source_state(self, state: SourceState) -> None:
        if state.frame_rate:
            self._rates[state.name] = state.frame_rate

    def on_label(self, label: Label) -> None:
        picture, source = self._draw(label), label.source
        height, width = picture.shape[:2]
        choose_encoder((height, width))  # without one no disk helps: this fault ends the run
        try:
            if not self._record(source, picture, label.frame.time_s):
                self.health.lose(source)
        except OutputError as fault:
            self._faults.note(source, fault)
            self.health.lose(source)
            self._abandon(source)

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
        if summary is None:
            self._abandon(source)
        else:
            self._finish(source)
        self._faults.forget(source)

    def finish(self) -> None:
        for source in list(self._recordings):
            self._finish(source)

    def close(self) -> None:
        for source in list(self._recordings):
            self._abandon(source)

    def _record(self, source: str, picture: Picture, time_s: float) -> bool:
        """Whether the picture was handed to a file. Raises OutputError."""
        recording, every_s = self._recordings.get(source), self._every_s
        if recording and every_s is not None and time_s - recording.began_s >= every_s:
            self._recordings.pop(source).finish()
            self._faults.over(source)
            recording = None
        if recording is None:
            if not self._faults.may_open(source):
                return False
            recording = self._open(source, picture, time_s)
        if picture.shape[:2] != recording.size_hw:  # the camera reconnected with another size
            height, width = recording.size_hw
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        recording.writer.write(picture, time_s - recording.began_s)
        self._faults.written(source)
        return True

    def _finish(self, source: str) -> None:
        recording = self._recordings.pop(source, None)
        if recording is None:
            return
        try:
            recording.finish()
            self._faults.over(source)
        except OutputError as fault:
            self._faults.note(source, fault)

    def _abandon(self, source: str) -> None:
        """Close what is incomplete: it keeps the name NAME.part."""
        recording = self._recordings.pop(source, None)
        if recording is not None:
            recording.closing.close()

    def _open(self, source: str, picture: Picture, time_s: float) -> _Recording:
        open_files = {recording.path for recording in self._recordings.values()}
        path = self._names.next(source, open_files)
        size_hw = (picture.shape[0], picture.shape[1])
        writer = VideoWriter(path, size_hw, self._rates[source])
        closing = ExitStack()
        closing.enter_context(writer)
        recording = _Recording(path, size_hw, time_s, writer, closing)
        self._recordings[source] = recording
        return recording
