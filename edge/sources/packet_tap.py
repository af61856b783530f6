"""Copies the compressed pictures of a camera on their way into the decoder."""

from __future__ import annotations

import time
from typing import Any

from edge.errors import SourceError
from edge.video.gstreamer import Pipeline, load_gstreamer
from edge.video.packets import Packet, PacketSink

_CODECS = ("video/x-h264", "video/x-h265")
_EIGHT_BITS, _CHROMA = 8, "4:2:0"  # what every player shows


class PacketTap:
    """Takes the packets of one pipeline, with times of the monotonic clock. Streams that many
    players cannot show (more than eight bits, or other chroma than 4:2:0) are left out."""

    def __init__(self, sink: PacketSink) -> None:
        self._gst = load_gstreamer(SourceError).Gst
        self._sink = sink
        self._caps: Any = None  # of the last packet
        self._text = ""  # the same, written out; "" if its packets are not kept

    def attach(self, pipeline: Pipeline) -> None:
        """Before it plays."""
        self._sink.begin_stream()
        for element in pipeline.elements():
            self._watch(element)
        pipeline.on_added(self._watch)

    def _watch(self, element: Any) -> None:
        factory = element.get_factory()  # None for the pipeline itself
        kinds = factory.get_metadata("klass").split("/") if factory else []
        if "Decoder" in kinds and "Video" in kinds and (pad := element.get_static_pad("sink")):
            pad.add_probe(self._gst.PadProbeType.BUFFER, self._on_buffer)

    def _on_buffer(self, pad: Any, info: Any) -> Any:
        """Called in GStreamer's thread."""
        caps, buffer = pad.get_current_caps(), info.get_buffer()
        if caps is not None and (self._caps is None or not caps.is_equal(self._caps)):
            self._caps, self._text = caps, caps.to_string() if _plays_everywhere(caps) else ""
        stamp_ns = buffer.pts if buffer.pts != self._gst.CLOCK_TIME_NONE else buffer.dts
        if self._text and stamp_ns != self._gst.CLOCK_TIME_NONE:
            self._sink.push(
                Packet(
                    buffer.extract_dup(0, buffer.get_size()),
                    self._text,
                    stamp_ns,
                    time.monotonic(),
                    not buffer.has_flags(self._gst.BufferFlags.DELTA_UNIT),
                )
            )
        return self._gst.PadProbeReturn.OK


def _plays_everywhere(caps: Any) -> bool:
    """Whether it is 8-bit 4:2:0 H.264 or H.265, one picture in a packet. What the caps do not state
    is what nearly all cameras send."""
    stream = caps.get_structure(0)
    depths = [stream.get_uint(f"bit-depth-{part}") for part in ("luma", "chroma")]
    return (
        stream.get_name() in _CODECS
        and stream.get_string("alignment") in (None, "au")
        and stream.get_string("chroma-format") in (None, _CHROMA)
        and all(bits == _EIGHT_BITS for known, bits in depths if known)
    )
