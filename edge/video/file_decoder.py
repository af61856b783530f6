"""Decodes the pictures of a video file with FFmpeg (PyAV), and nothing but that file."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import av
import cv2

from edge.errors import SourceError
from edge.video.coded_picture import coding_order, export_vectors
from edge.video.frames import SQUARE, pixel_aspect
from edge.video.jpeg import lacks_end
from edge.video.whole import is_cut_short

_RATE_MAX_FPS = 480.0  # beyond this it is the unit of a variable rate's times
# A video of strangers may be a playlist: nothing but the file itself is read. FFmpeg's names.
_CONTAINERS = (
    "avi,mov,matroska,mpeg,mpegvideo,mpegts,asf,flv,ogg,mxf,m4v,h264,hevc,ivf,dv,nut,wtv,rm,gif,"
    "yuv4mpegpipe,mjpeg,obu,av1,wav,mp3,flac,aac"
)
_ONLY_THE_FILE = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}


class NoVideoError(SourceError):
    """A file of which all can be read, but it has no pictures that move."""


class FileDecoder:
    """The pictures of a file's best video stream, in the order of presentation.

    frame_rate: nominal frames a second, None if the file does not state one. pixel_aspect: width :
    height. damaged: pictures that could not be restored wholly; undecodable: packets that gave no
    picture at all. fault: why the file ended too early; None: it did not, as far as is known yet.
    """

    def __init__(self, path: Path, vectors: bool = False) -> None:
        """vectors: decode motion vectors, too, see edge.video.vector_reader. Raises SourceError if
        it is no video that can be read, or has no vectors."""
        self._path, self._container, self._vectors = path, _open(path), vectors
        try:
            self._stream = _video_stream(path, self._container)
            if vectors:
                export_vectors(self._stream.codec_context, str(path))
        except SourceError:
            self._container.close()
            raise
        rate = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        self.frame_rate = rate if 0 < rate <= _RATE_MAX_FPS else None
        aspect = self._stream.sample_aspect_ratio
        self.pixel_aspect = pixel_aspect(*aspect.as_integer_ratio()) if aspect else SQUARE
        self.damaged = self.undecodable = 0
        self.fault: str | None = None

    def close(self) -> None:
        self._container.close()

    def expected_frames(self) -> int | None:
        """How many pictures there should be; None if unknown."""
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

    def pictures(self) -> Iterator[tuple[float | None, av.VideoFrame]]:
        """(time stamp in seconds or None, picture) each."""
        # AVI counts its packets, empty ones included, and keeps no times of presentation: those
        # that FFmpeg makes up for B-frames go back and forth. The n-th picture has the n-th count.
        counts: deque[float] | None = deque() if self._container.format.name == "avi" else None
        jpegs = [0, 0]  # whole ones, and those that lack their end, which the decoder does not say
        for place, packet in enumerate(self._packets()):
            if packet.dts is not None and not packet.size:  # the picture before is shown for longer
                continue
            if counts is not None and packet.dts is not None:
                counts.append(float(packet.dts * packet.time_base))
            if self._stream.codec_context.name == "mjpeg" and packet.size:
                jpegs[lacks_end(bytes(packet))] += 1
            if self._vectors and packet.size:
                packet.opaque = coding_order(packet, self._stream.codec_context, place)
            try:
                pictures = packet.decode()
            except (av.FFmpegError, ValueError):
                self.undecodable += 1
                continue
            for picture in pictures:
                self.damaged += picture.is_corrupt
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

    def _is_unfinished(self) -> bool:
        """Whether the container counts more frames than it has bytes: an AVI that was written into
        a pipe, in which no length could be filled in."""
        return self._stream.frames > self._path.stat().st_size


def _video_stream(path: Path, container: av.container.InputContainer) -> av.VideoStream:
    stream = container.streams.best("video")
    cover = av.stream.Disposition.attached_pic  # of a piece of music
    if not isinstance(stream, av.VideoStream) or stream.disposition & cover:
        raise NoVideoError(f"{path}: it has no video, only other streams")
    if stream.codec_context is None:
        raise SourceError(f"{path}: no decoder for its video is known")
    stream.thread_type = "AUTO"
    return stream


def _open(path: Path) -> av.container.InputContainer:
    try:
        # absolute: FFmpeg would take the beginning of a:b.avi for a protocol
        return av.open(str(path.absolute()), options=_ONLY_THE_FILE)
    except (av.FFmpegError, OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        reason = _what_it_is(path) or told
        raise SourceError(f"{path}: not a readable video ({reason})") from None


def _what_it_is(path: Path) -> str | None:
    """What a file is that FFmpeg does not open, for a person; None if it cannot be told."""
    if not path.is_file():
        return None
    if _is_text(path):
        return "it is text; if it is a playlist, give the video itself"
    if cv2.haveImageReader(str(path)):
        return "it is a picture; give a video, or a folder of numbered pictures"
    return "its end is missing; record or copy it again" if is_cut_short(path) else None


def _is_text(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    return bool(head) and min(head) >= 9  # tab is the lowest byte of a text
