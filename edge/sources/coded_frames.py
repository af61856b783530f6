"""From the packets that GStreamer receives to frames with motion vectors, which FFmpeg decodes: no
GStreamer element passes vectors on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from edge.errors import SourceError
from edge.sources.uri import Address
from edge.video.clock import StreamClock
from edge.video.frames import Frame
from edge.video.gstreamer import load_gstreamer
from edge.video.orientation import turn
from edge.video.packet_decoder import PacketDecoder
from edge.video.picture import read_picture
from edge.video.vector_reader import VectorReader

_RATE_MAX_FPS = 1000


class CodedFrames:
    """The frames of one camera's packets. size_hw: px; frame_rate: nominal, None if not stated;
    both are known after the first frame."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._gst = load_gstreamer(SourceError).Gst
        self._decoder: PacketDecoder | None = None
        self._reader = VectorReader()
        self._clock = StreamClock(None)
        self._pictures = self._frames = 0
        self.size_hw = (0, 0)
        self.frame_rate: float | None = None

    @property
    def damaged(self) -> int:
        """Pictures and packets that could not be restored; they are left out."""
        return 0 if self._decoder is None else self._decoder.damaged

    def push(self, sample: Any) -> Iterator[Frame]:
        """The frames that a sample of one packet completes, without `arrived_s`.

        Raises SourceError for a codec without vectors, and when the size changes.
        """
        decoder = self._decoder = self._decoder or self._open(sample.get_caps())
        buffer = sample.get_buffer()
        time_ns = sample.get_segment().to_running_time(self._gst.Format.TIME, buffer.pts)
        known = time_ns != self._gst.CLOCK_TIME_NONE
        data = buffer.extract_dup(0, buffer.get_size())
        for stamp_s, picture in decoder.decode(data, time_ns if known else None):
            time_s = self._clock.time_s(self._pictures, stamp_s)
            self._pictures += 1
            for complete, when_s, vectors in self._reader.push(picture, time_s):
                frame = read_picture(complete, when_s, self._frames, decoder.pixel_aspect)
                self._frames += 1
                frame = replace(frame, vectors=vectors)
                yield self._checked(turn(frame, self._address.orientation))

    def _open(self, caps: Any) -> PacketDecoder:
        structure = caps.get_structure(0)
        codec = _codec_of(structure)
        known, numerator, denominator = structure.get_fraction("framerate")
        if known and 0 < numerator <= _RATE_MAX_FPS * denominator:
            self.frame_rate = numerator / denominator
        self._clock = StreamClock(self.frame_rate)
        return PacketDecoder(codec, _codec_data(structure), self._address.name)

    def _checked(self, frame: Frame) -> Frame:
        if self.size_hw not in ((0, 0), frame.size_hw):
            old, new = (f"{width}x{height}" for height, width in (self.size_hw, frame.size_hw))
            raise SourceError(f"{self._address.name}: the size changes from {old} to {new}")
        self.size_hw = frame.size_hw
        return frame


def _codec_of(structure: Any) -> str:
    """FFmpeg's name of the codec in caps; GStreamer's if it has another."""
    name = str(structure.get_name())
    if name == "video/mpeg":
        version = structure.get_int("mpegversion").value
        return {1: "mpeg1video", 2: "mpeg2video", 4: "mpeg4"}.get(version, name)
    return name.removeprefix("video/x-").removeprefix("image/").replace("h265", "hevc")


def _codec_data(structure: Any) -> bytes:
    buffer = structure.get_value("codec_data") if structure.has_field("codec_data") else None
    return b"" if buffer is None else bytes(buffer.extract_dup(0, buffer.get_size()))
