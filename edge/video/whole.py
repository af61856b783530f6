"""Whether a file ends before its container does.

Durations and numbers of frames may be wrong, missing or changed by an edit list; the lengths of a
container's parts are not: where one reaches beyond the end of the file, the rest was lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_MP4_FIRST = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof")
_ASF = bytes.fromhex("3026b2758e66cf11a6d9")
_UNKNOWN = (0, 0xFFFFFFFF)  # lengths in a RIFF that was written into a pipe, or never finished
_FLV_TAGS = (8, 9, 18)  # sound, video, data
_TS_SYNC = 0x47


def is_cut_short(path: Path) -> bool:
    """Whether a file lacks its end: MP4, MOV, Matroska, WebM, AVI, FLV, Ogg, ASF (WMV) and MPEG-TS.
    Of others, which state no lengths, nothing is known: False."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[4:8] in _MP4_FIRST:
            ends = _boxes(file, size)
        elif head[:4] == b"RIFF":
            ends = _riff(file, size)
        elif head[:4] == _EBML:
            ends = _ebml(file, size)
        elif head[:3] == b"FLV":
            ends = _flv(file, size)
        elif head[:4] == b"OggS":
            ends = _ogg(file, size)
        elif head.startswith(_ASF):
            ends = _asf(file, size)
        else:
            ends = _transport_stream(file, size)
        return any(end > size for end in ends)


def _boxes(file: BinaryIO, size: int) -> Iterator[int]:
    """The ends of the outermost boxes (ISO 14496-12)."""
    start = 0
    while start + 8 <= size:
        file.seek(start)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length == 0:  # to the end of the file, whatever that is
            return
        if length < 8:  # no box: something was appended
            return
        start += length
        yield start


def _riff(file: BinaryIO, size: int) -> Iterator[int]:
    """The ends of the outermost chunks; files beyond 1 GB have several (OpenDML)."""
    start = 0
    while start + 8 <= size:
        file.seek(start)
        head = file.read(8)
        length = int.from_bytes(head[4:8], "little")
        if head[:4] != b"RIFF" or length in _UNKNOWN:
            return
        start += 8 + length + length % 2
        yield start - length % 2


def _ebml(file: BinaryIO, size: int) -> Iterator[int]:
    """The ends of the header and of the segment (RFC 8794)."""
    start = 0
    while start + 5 <= size:
        file.seek(start)
        head = file.read(12)
        width = 9 - head[4].bit_length()  # bytes of the length
        if width > 8:
            return
        length = int.from_bytes(head[4 : 4 + width], "big") - (1 << (7 * width))
        if length == (1 << (7 * width)) - 1:  # unknown: a live recording
            return
        start += 4 + width + length
        yield start
        if head[:4] == _SEGMENT:
            return


def _flv(file: BinaryIO, size: int) -> Iterator[int]:
    """The ends of the tags; four bytes follow each."""
    file.seek(5)
    start = int.from_bytes(file.read(4), "big") + 4
    while start < size:
        file.seek(start)
        head = file.read(11)
        if head[0] not in _FLV_TAGS:  # something was appended
            return
        start += 11 + int.from_bytes(head[1:4], "big")
        yield start
        start += 4


def _ogg(file: BinaryIO, size: int) -> Iterator[int]:
    """The ends of the pages (RFC 3533)."""
    start = 0
    while start < size:
        file.seek(start)
        head = file.read(27)
        if not head.startswith(b"OggS"):
            return
        segments = head[26] if len(head) == 27 else 0
        start += 27 + segments + sum(file.read(segments))
        yield start


def _asf(file: BinaryIO, size: int) -> Iterator[int]:
    """The ends of the outermost objects."""
    start = 0
    while start + 24 <= size:
        file.seek(start + 16)
        length = int.from_bytes(file.read(8), "little")
        if not 24 <= length < 1 << 63:  # a live recording does not know it
            return
        start += length
        yield start


def _transport_stream(file: BinaryIO, size: int) -> Iterator[int]:
    """The end of the last packet; all have the same length, 192 bytes with the times of M2TS."""
    file.seek(0)
    head = file.read(3 * 192)
    for packet, sync in ((188, 0), (192, 4)):
        if len(head) == 3 * 192 and all(head[sync + k * packet] == _TS_SYNC for k in range(3)):
            yield -(-size // packet) * packet
            return
