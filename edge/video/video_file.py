"""Reads videos from files, for training and runs alike, with FFmpeg (PyAV).

One reader for both, so that a network sees in a run what it was trained on, on every machine.
GStreamer's place is with cameras: its versions differ from board to board, and the one of
Debian 12 loses the colour range of MP4 files and dies of some pixel formats.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import av

from edge.errors import SourceError
from edge.video.clock import StreamClock
from edge.video.file_decoder import FileDecoder
from edge.video.frames import Frame, default_matrix
from edge.video.motion_vectors import MotionVectors
from edge.video.orientation import UPRIGHT, Orientation, turn
from edge.video.picture import colour_fault, orientation_of, read_picture, states_its_matrix
from edge.video.vector_reader import VectorReader
from edge.video.view import WHOLE, View, ViewCutter
from edge.video.whole import is_cut_short

logger = logging.getLogger(__name__)

_RATE_FPS = 25.0  # of a stream that states none


class VideoFile:
    """An iterator of the frames of a file, started by `with`; each is upright.

    size_hw: px of each frame. frame_rate: nominal frames a second, None if the file does not state
    one. expected_frames: how many there should be, an estimate for progress bars; None if unknown.
    received: frames so far. damaged: those that the decoder could not restore wholly; unlike a
    camera's they are shown. turned: whether the file says that its pictures lie or are mirrored,
    which is obeyed; known with the first frame. fault: why the file ended too early; None: it did
    not. warnings: one line each; complete when the iteration has ended.

    A frame's planes are views of the decoder's memory, valid as long as they are referenced.
    """

    live: bool = False
    dropped: int = 0  # a file waits for its reader

    def __init__(
        self,
        path: Path,
        orientation: Orientation = UPRIGHT,
        view: View = WHOLE,
        *,
        quiet: bool = False,
        vectors: bool = False,
    ) -> None:
        """orientation: how to turn the frames after the file's own orientation. view: what is used
        of them then. quiet: warnings are not logged. vectors: the frames have the motion vectors of
        their codec."""
        self.path = path
        self.size_hw = (0, 0)
        self.frame_rate: float | None = None
        self.expected_frames: int | None = None
        self.received = 0
        self.turned = False
        self.warnings: list[str] = []
        self._orientation, self._quiet = orientation, quiet
        self._cut = ViewCutter(view, str(path))
        self._vectors = VectorReader() if vectors else None
        self._first: Frame | None = None
        self._stopped = False

    def __enter__(self) -> VideoFile:
        self._decoder = FileDecoder(self.path, self._vectors is not None)
        try:
            self._read_first()
        except BaseException:
            self._decoder.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._frames.close()
        self._decoder.close()

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        frame, self._first = self._first or next(self._frames), None
        self.received += 1
        return frame

    def stop(self) -> None:
        """End the iteration soon. Thread-safe."""
        self._stopped = True

    @property
    def damaged(self) -> int:
        return self._decoder.damaged

    @property
    def fault(self) -> str | None:
        return self._decoder.fault

    def _read_first(self) -> None:
        """Read the first frame, which settles size and orientation."""
        self.frame_rate = self._decoder.frame_rate
        self.expected_frames = self._decoder.expected_frames()
        self._frames = self._read()
        try:
            first = self._first = next(self._frames)
        except StopIteration:
            reason = self.fault or "it ends before its first frame"
            raise SourceError(f"{self.path}: not a readable video ({reason})") from None
        self.size_hw = first.size_hw

    def _read(self) -> Generator[Frame]:
        clock = StreamClock(self.frame_rate or _RATE_FPS)
        end_s = 0.0
        for index, (picture, end_s, vectors) in enumerate(self._with_vectors(self._timed(clock))):
            frame = read_picture(picture, end_s, index, self._decoder.pixel_aspect)
            if vectors is not None:
                frame = replace(frame, vectors=vectors)
            own = orientation_of(picture)
            self.turned |= own != UPRIGHT
            yield self._cut(turn(frame, own.then(self._orientation)))
        if not self._stopped:
            self._note_end(clock, end_s)

    def _timed(self, clock: StreamClock) -> Iterator[tuple[av.VideoFrame, float]]:
        """The pictures, all of one size, and their times."""
        size_hw = (0, 0)
        for index, (stamp_s, picture) in enumerate(self._decoder.pictures()):
            if self._stopped:
                return
            if index == 0:
                size_hw = picture.height, picture.width
                self._note_colours(picture)
            elif size_hw != (picture.height, picture.width):
                old, new = f"{size_hw[1]}x{size_hw[0]}", f"{picture.width}x{picture.height}"
                raise SourceError(
                    f"{self.path}: the size changes from {old} to {new} at frame {index}; convert "
                    "the file to one size"
                )
            yield picture, clock.time_s(index, stamp_s)

    def _with_vectors(
        self, pictures: Iterator[tuple[av.VideoFrame, float]]
    ) -> Iterator[tuple[av.VideoFrame, float, MotionVectors | None]]:
        reader = self._vectors
        for picture, time_s in pictures:
            if reader is None:
                yield picture, time_s, None
            else:
                yield from reader.push(picture, time_s)
        if reader is not None:
            yield from reader.flush()

    def _note_colours(self, picture: av.VideoFrame) -> None:
        if not states_its_matrix(picture):
            matrix = default_matrix(picture.height)
            logger.debug("%s: states no colour matrix; %s is taken", self.path, matrix)
        if (fault := colour_fault(picture)) is not None:
            self._warn(fault)

    def _note_end(self, clock: StreamClock, end_s: float) -> None:
        """Complete the warnings."""
        if clock.replaced:
            self._warn(
                f"frames without a time stamp or with one not later than the last: "
                f"{clock.replaced}; their times were computed from the frame rate"
            )
        decoder = self._decoder
        if decoder.undecodable:
            self._warn(
                f"packets that could not be decoded, so that frames miss: {decoder.undecodable}"
            )
        if self.damaged:
            self._warn(f"damaged frames: {self.damaged}")
        if self.fault is None and is_cut_short(self.path):
            decoder.fault = "its end is missing"
        if self.fault is not None:
            stated_s = decoder.stated_duration_s()
            announced = f"announces {stated_s:.1f} s" if stated_s else "states no length"
            self._warn(
                f"ends after {end_s:.1f} s, its container {announced}; the file is damaged or cut "
                f"short ({self.fault})"
            )

    def _warn(self, text: str) -> None:
        self.warnings.append(f"{self.path}: {text}")
        if not self._quiet:
            logger.warning("%s", self.warnings[-1])
