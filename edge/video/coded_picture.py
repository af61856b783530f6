"""Coded pictures whose motion vectors the decoder passes on.

FFmpeg's decoders of some codecs give the vectors that they decode with (`export_mvs`). They do not
say which picture a vector refers to, only whether it is shown earlier or later. So each packet
takes along what tells it: its place in the order of decoding, and whether others refer to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av
from av.codec.context import Flags
from numpy.typing import NDArray

from edge.errors import SourceError

# FFmpeg's names. Its decoders of other codecs, HEVC and AV1 among them, export no vectors.
CODECS = ("h264", "mpeg4", "mpeg2video", "mpeg1video")
_SLICES = range(1, 6)  # types of NAL units with a picture's slices (H.264, 7.4.1)
_B_PICTURE = 3  # FFmpeg's AVPictureType


@dataclass(frozen=True, slots=True)
class CodingOrder:
    """What a packet takes along. codec: FFmpeg's name. place: in the order of decoding.
    is_reference: whether other pictures may refer to it, of H.264 alone."""

    codec: str
    place: int
    is_reference: bool = False


@dataclass(frozen=True, slots=True)
class CodedPicture:
    """A decoded picture, for its motion vectors.

    picture: an av.VideoFrame. time_s: of presentation. place: in the order of decoding.
    is_reference: whether other pictures may refer to it. vectors: FFmpeg's (N,), None if there are
    none. are_lost: it was coded with vectors, but FFmpeg does not export them.
    """

    picture: Any
    time_s: float
    place: int
    is_reference: bool
    vectors: NDArray[Any] | None
    are_lost: bool = False

    @property
    def looks_ahead(self) -> bool:
        """Whether it refers to a picture that is shown later."""
        return self.vectors is not None and bool((self.vectors["source"] > 0).any())


def export_vectors(context: av.VideoCodecContext, name: str) -> None:
    """Let a decoder that is not open yet give motion vectors and keep each packet's `opaque`.

    Raises SourceError if its codec has none. name: of the source, for the message.
    """
    check_codec(context.name, name)
    context.options = {"flags2": "+export_mvs"}
    context.flags |= Flags.copy_opaque
    # not several pictures at the same time: FFmpeg would now and then export vectors of H.264 that
    # are not written yet, and hold pictures back
    context.thread_type = "SLICE"


def check_codec(codec: str, name: str) -> None:
    """Raises SourceError if a codec has no motion vectors. name: of the source."""
    if codec not in CODECS:
        raise SourceError(
            f"{name}: its codec, {codec}, gives no motion vectors, which this network "
            "needs; give H.264, MPEG-4 or MPEG-2, or take a network for TV-L1 flow"
        )


def coding_order(packet: av.Packet, context: av.VideoCodecContext, place: int) -> CodingOrder:
    """Of a packet, to be its `opaque`. place: see CodingOrder."""
    if context.name != "h264":
        return CodingOrder(context.name, place)
    reference = _is_h264_reference(bytes(packet), context.extradata or b"")
    return CodingOrder(context.name, place, reference)


def coded_picture(picture: Any, time_s: float) -> CodedPicture:
    """Of an av.VideoFrame whose packet had a `coding_order`."""
    order = picture.opaque
    if not isinstance(order, CodingOrder):  # it stands for one that was lost
        return CodedPicture(picture, time_s, 0, False, None)
    is_b = int(picture.pict_type) == _B_PICTURE
    reference = order.is_reference if order.codec == "h264" else not is_b
    if is_b and order.codec == "mpeg4":  # all come as zero
        return CodedPicture(picture, time_s, order.place, reference, None, are_lost=True)
    data = picture.side_data.get("MOTION_VECTORS")
    vectors = None if data is None else data.to_ndarray()
    return CodedPicture(picture, time_s, order.place, reference, vectors)


def _is_h264_reference(packet: bytes, extradata: bytes) -> bool:
    """nal_ref_idc of the first slice in a packet, in the form of files (ISO 14496-15: a length
    before each unit) or of streams (H.264, annex B: a start code). True if there is no slice."""
    if extradata[:1] == b"\1":
        width = (extradata[4] & 3) + 1 if len(extradata) > 4 else 4
        at = 0
        while at + width < len(packet):
            length, head = int.from_bytes(packet[at : at + width], "big"), packet[at + width]
            if head & 31 in _SLICES:
                return head >> 5 & 3 != 0
            at += width + length
        return True
    at = packet.find(b"\0\0\1")
    while 0 <= at < len(packet) - 3:
        head = packet[at + 3]
        if head & 31 in _SLICES:
            return head >> 5 & 3 != 0
        at = packet.find(b"\0\0\1", at + 3)
    return True
