"""Encodes pictures as H.264 into a ring."""

from __future__ import annotations

from typing import Any

from edge.errors import OutputError
from edge.outputs.overlay import Picture
from edge.outputs.picture_encoder import PictureEncoder
from edge.video.gstreamer import load_gstreamer
from edge.video.packets import Packet, PacketRing

_END_S = 10.0
_TAIL = (
    "video/x-h264,stream-format=byte-stream,alignment=au "
    "! appsink name=packets sync=false emit-signals=true"
)


class RingEncoder:
    """The times of the packets are those of the pictures."""

    def __init__(
        self, ring: PacketRing, size_hw: tuple[int, int], frame_rate: float, begin_s: float
    ) -> None:
        """size_hw: px, both even. begin_s: stream time of the first picture."""
        self._gst = load_gstreamer(OutputError).Gst
        self._ring, self._begin_s = ring, begin_s
        self._encoder = PictureEncoder(size_hw, frame_rate, _TAIL)
        self._encoder.open()
        self._packets = self._encoder.element("packets")
        self._handler = self._packets.connect("new-sample", self._on_packet)
        ring.begin_stream()
        self._encoder.start()

    def write(self, picture: Picture, time_s: float) -> None:
        """Add a picture, (H, W, 3) BGR uint8; waits while the queue is full. Raises OutputError."""
        self._encoder.write(picture, time_s - self._begin_s)

    def close(self) -> None:
        """Encode what waits, and release everything."""
        if self._encoder.last_s is not None and self._encoder.fault is None:
            self._encoder.await_end(_END_S)
        self._encoder.stop()
        self._packets.disconnect(self._handler)

    def _on_packet(self, sink: Any) -> Any:
        """Called in GStreamer's thread."""
        if sample := sink.try_pull_sample(0):
            buffer = sample.get_buffer()
            # an encoder may shift its stamps, so that none is negative
            time_ns = sample.get_segment().to_running_time(self._gst.Format.TIME, buffer.pts)
            self._ring.push(
                Packet(
                    buffer.extract_dup(0, buffer.get_size()),
                    sample.get_caps().to_string(),
                    time_ns,
                    self._begin_s + time_ns / 1e9,
                    not buffer.has_flags(self._gst.BufferFlags.DELTA_UNIT),
                )
            )
        return self._gst.FlowReturn.OK
