"""Reads videos from files, for training and runs alike, with FFmpeg (PyAV).

One reader for both, so that a network sees in a run what it was trained on, on every machine.
GStreamer's place is with cameras: its versions differ from board to board, and the one of
Debian 12 loses the colour range of MP4 files and dies of some pixel formats.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Iterator
from pathlib import Path
from types import TracebackType

import av
import cv2

from edge.errors import SourceError
from edge.video.clock import StreamClock
from edge.video.frames import Frame, default_matrix, pixel_aspect
from edge.video.jpeg import lacks_end
from edge.video.orientation import UPRIGHT, Orientation, turn
from edge.video.picture import colour_fault, orientation_of, read_picture, states_its_matrix
from edge.video.whole import is_cut_short

logger = logging.getLogger(__name__)

_RATE_FPS = 25.0  # of a stream that states none
_RATE_MAX_FPS = 480.0  # beyond this it is the unit of a variable rate's times
# A video of strangers may be a playlist: nothing but the file itself is read. FFmpeg's names.
_CONTAINERS = (
    "avi,mov,matroska,mpeg,mpegvideo,mpegts,asf,flv,ogg,mxf,m4v,h264,hevc,ivf,dv,nut,wtv,rm,gif,"
    "yuv4mpegpipe,mjpeg,obu,av1,wav,mp3,flac,aac"
)
_ONLY_THE_FILE = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}


class NoVideoError(SourceError):
    """A file of which all can be read, but it has no pictures that move."""


class VideoFile:
    """An iterator of the frames of a file, started by `with`; each is upright.

    size_hw: px of each frame. frame_rate: nominal frames a second, None if the file does not state
    one. expected_frames: how many there should be, an estimate for progress bars; None if unknown.
    received: frames so far. damaged: those that the decoder could not restore wholly; unlike a
    camera's they are shown. undecodable: packets that gave no frame at all. fault: why the file
    ended too early; None: it did not. warnings: one line each; complete when the iteration has
    ended.

    A frame's planes are views of the decoder's memory, valid as long as they are referenced.
    """

    live: bool = False
    dropped: int = 0  # a file waits for its reader

    def __init__(
        self, path: Path, orientation: Orientation = UPRIGHT, *, quiet: bool = False
    ) -> None:
        """orientation: how to turn the frames after the file's own orientation. quiet: warnings are
        not logged."""
        self.path = path
        self.size_hw = (0, 0)
        self.frame_rate: float | None = None
        self.expected_frames: int | None = None
        self.received = self.damaged = self.undecodable = 0
        self.fault: str | None = None
        self.warnings: list[str] = []
        self._orientation, self._quiet = orientation, quiet
        self._first: Frame | None = None
        self._stopped = False

    def __enter__(self) -> VideoFile:
        self._container = _open(self.path)
        try:
            self._prepare()
        except BaseException:
            self._container.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._frames.close()
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        frame, self._first = self._first or next(self._frames), None
        self.received += 1
        return frame

    def stop(self) -> None:
        """End the iteration soon. Thread-safe."""
        self._stopped = True

    def _prepare(self) -> None:
        """Read the first frame, which settles size and orientation."""
        container = self._container
        stream = container.streams.best("video")
        cover = av.stream.Disposition.attached_pic  # of a piece of music
        if not isinstance(stream, av.VideoStream) or stream.disposition & cover:
            raise NoVideoError(f"{self.path}: it has no video, only other streams")
        if stream.codec_context is None:
            raise SourceError(f"{self.path}: no decoder for its video is known")
        stream.thread_type = "AUTO"
        self._stream = stream
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        self.frame_rate = rate if 0 < rate <= _RATE_MAX_FPS else None
        self.expected_frames = self._expected()
        aspect = stream.sample_aspect_ratio
        self._pixel_aspect = pixel_aspect(*aspect.as_integer_ratio()) if aspect else (1, 1)
        self._frames = self._read()
        try:
            first = self._first = next(self._frames)
        except StopIteration:
            reason = self.fault or "it ends before its first frame"
            raise SourceError(f"{self.path}: not a readable video ({reason})") from None
        self.size_hw = first.size_hw

    def _is_unfinished(self) -> bool:
        """Whether the container counts more frames than it has bytes: an AVI that was written into
        a pipe, in which no length could be filled in."""
        return self._stream.frames > self.path.stat().st_size

    def _expected(self) -> int | None:
        if self._stream.frames and not self._is_unfinished():
            return self._stream.frames
        duration_s = self.stated_duration_s()
        return round(duration_s * self.frame_rate) if duration_s and self.frame_rate else None

    def stated_duration_s(self) -> float | None:
        """The length that the container states, s."""
        stream = self._stream
        if self._is_unfinished():
            return None
        if stream.frames and self.frame_rate:
            return stream.frames / self.frame_rate
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        duration_us = self._container.duration
        return duration_us / 1e6 if duration_us else None

    def _read(self) -> Generator[Frame]:
        clock = StreamClock(self.frame_rate or _RATE_FPS)
        size_hw, end_s = (0, 0), 0.0
        for index, (stamp_s, picture) in enumerate(self._pictures()):
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
            self.damaged += picture.is_corrupt
            end_s = clock.time_s(index, stamp_s)
            frame = read_picture(picture, end_s, index, self._pixel_aspect)
            yield turn(frame, orientation_of(picture).then(self._orientation))
        self._note_end(clock, end_s)

    def _note_colours(self, picture: av.VideoFrame) -> None:
        if not states_its_matrix(picture):
            matrix = default_matrix(picture.height)
            logger.debug("%s: states no colour matrix; %s is taken", self.path, matrix)
        if (fault := colour_fault(picture)) is not None:
            self._warn(fault)

    def _pictures(self) -> Iterator[tuple[float | None, av.VideoFrame]]:
        """Decoded pictures in the order of presentation, with their time stamps in seconds."""
        # AVI counts its packets, empty ones included, and keeps no times of presentation: those
        # that FFmpeg makes up for B-frames go back and forth. The n-th picture has the n-th count.
        counts: deque[float] | None = deque() if self._container.format.name == "avi" else None
        jpegs = [0, 0]  # whole ones, and those that lack their end, which the decoder does not say
        for packet in self._packets():
            if packet.dts is not None and not packet.size:  # the picture before is shown for longer
                continue
            if counts is not None and packet.dts is not None:
                counts.append(float(packet.dts * packet.time_base))
            if self._stream.codec_context.name == "mjpeg" and packet.size:
                jpegs[lacks_end(bytes(packet))] += 1
            try:
                pictures = packet.decode()
            except (av.FFmpegError, ValueError):
                self.undecodable += 1
                continue
            for picture in pictures:
                if counts:
                    yield counts.popleft(), picture
                else:
                    yield picture.time, picture
        if jpegs[0]:  # there are encoders that never write the end
            self.damaged += jpegs[1]

    def _packets(self) -> Iterator[av.Packet]:
        try:
            yield from self._container.demux(self._stream)
        except (av.FFmpegError, OSError) as error:
            self.fault = error.strerror or str(error)

    def _note_end(self, clock: StreamClock, end_s: float) -> None:
        """Complete the warnings."""
        if clock.replaced:
            self._warn(
                f"frames without a time stamp or with one not later than the last: "
                f"{clock.replaced}; their times were computed from the frame rate"
            )
        if self.undecodable:
            self._warn(
                f"packets that could not be decoded, so that frames miss: {self.undecodable}"
            )
        if self.damaged:
            self._warn(f"damaged frames: {self.damaged}")
        if self.fault is None and is_cut_short(self.path):
            self.fault = "its end is missing"
        if self.fault is not None:
            stated_s = self.stated_duration_s()
            announced = f"announces {stated_s:.1f} s" if stated_s else "states no length"
            self._warn(
                f"ends after {end_s:.1f} s, its container {announced}; the file is damaged or cut "
                f"short ({self.fault})"
            )

    def _warn(self, text: str) -> None:
        self.warnings.append(f"{self.path}: {text}")
        if not self._quiet:
            logger.warning("%s", self.warnings[-1])


def _open(path: Path) -> av.container.InputContainer:
    try:
        # absolute: FFmpeg would take the beginning of a:b.avi for a protocol
        return av.open(str(path.absolute()), options=_ONLY_THE_FILE)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        if _is_text(path):
            reason = "it is text; if it is a playlist, give the video itself"
        elif cv2.haveImageReader(str(path)):
            reason = "it is a picture; give a video, or a folder of numbered pictures"
        elif is_cut_short(path):
            reason = "its end is missing; record or copy it again"
        raise SourceError(f"{path}: not a readable video ({reason})") from None


def _is_text(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    return bool(head) and min(head) >= 9  # tab is the lowest byte of a text
