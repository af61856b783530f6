"""Decodes packets that come without a container, with their motion vectors."""

from __future__ import annotations

from fractions import Fraction

import av

from edge.video.coded_picture import check_codec, coding_order, export_vectors
from edge.video.frames import SQUARE, pixel_aspect

_NS = Fraction(1, 10**9)


class PacketDecoder:
    """A decoder of one stream. damaged: pictures and packets that could not be restored; they are
    left out."""

    def __init__(self, codec: str, extradata: bytes, name: str) -> None:
        """codec: FFmpeg's name. extradata: the head of the stream, b"" if it is in the packets.
        name: of the source. Raises SourceError if the codec has no vectors."""
        check_codec(codec, name)  # there may be no decoder of that name
        context = av.CodecContext.create(codec, "r")
        assert isinstance(context, av.VideoCodecContext)
        self._context = context
        export_vectors(context, name)
        if extradata:
            context.extradata = extradata
        self.damaged = 0
        self._packets = 0

    @property
    def pixel_aspect(self) -> tuple[int, int]:
        """Width : height."""
        aspect = self._context.sample_aspect_ratio
        return pixel_aspect(*aspect.as_integer_ratio()) if aspect else SQUARE

    def decode(self, data: bytes, time_ns: int | None) -> list[tuple[float | None, av.VideoFrame]]:
        """The pictures that a packet completes, with their times in seconds. time_ns: of the
        packet's picture; None: not known."""
        packet = av.Packet(data)
        packet.time_base = _NS
        packet.pts = time_ns
        packet.opaque = coding_order(packet, self._context, self._packets)
        self._packets += 1
        try:
            pictures = self._context.decode(packet)
        except (av.FFmpegError, ValueError):
            self.damaged += 1
            return []
        whole = [picture for picture in pictures if not picture.is_corrupt]
        self.damaged += len(pictures) - len(whole)
        return [(None if p.pts is None else float(p.pts * _NS), p) for p in whole]
