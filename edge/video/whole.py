"""Whether a file ends before its container does.

Durations and numbers of frames may be wrong, missing or changed by an edit list; the lengths of a
container's boxes are not: where one reaches beyond the end of the file, the rest was lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_MP4_FIRST = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof")


def is_cut_short(path: Path) -> bool:
    """Whether an MP4, MOV, Matroska, WebM or AVI file lacks its end. Of other containers, which
    state no lengths, nothing is known: False."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[4:8] in _MP4_FIRST:
            ends = _boxes(file, size)
        elif head[:4] == b"RIFF":
            ends = _riff(file, size)
        elif head[:4] == _EBML:
            ends = _ebml(file, size)
        else:
            return False
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
        if head[:4] != b"RIFF" or length == 0:  # 0: never finished, but read to its end
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
