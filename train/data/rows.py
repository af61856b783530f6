"""Rows of bytes in a file, as they are or compressed without loss; a row is read on its own.

    NAME.npy        a NumPy array of bytes, memory-mapped
    NAME.magicyuv   each row as a grey picture in a packet of MagicYUV, one after another; then
                    where each packet begins and where the last one ends, as <u8

MagicYUV is a lossless codec of FFmpeg whose pictures don't depend on each other, and PyAV brings it
for every machine that trains. Of the codecs that were measured (docs/figures.md) FFV1 makes smaller
files and takes three times as long to read them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import IO, Literal, Protocol

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from edge.errors import DataError
from edge.files import write_atomic

Bytes = NDArray[np.uint8]

_PLAIN, _COMPRESSED = ".npy", ".magicyuv"
_CODEC, _FORMAT = "magicyuv", "gray"
_OPTIONS = {"pred": "gradient"}  # of its three predictors the best of size and speed together


class Rows(Protocol):
    """The rows of a file, by number."""

    def __getitem__(self, index: int) -> Bytes: ...


class RowsWriter(Protocol):
    """Writes rows one by one, so that they need not fit into memory."""

    def append(self, row: Bytes) -> None: ...


@contextmanager
def write_rows(
    name: Path, shape: tuple[int, ...], width_px: int, compressed: bool
) -> Iterator[RowsWriter]:
    """A file of rows of `shape`; nothing is left if the block raises. Raises OSError.

    name: of the file without its ending; one of the other form is deleted. width_px: of the picture
    that a row's bytes are, line by line.
    """
    endings = (_COMPRESSED, _PLAIN) if compressed else (_PLAIN, _COMPRESSED)
    own, other = (name.with_name(name.name + ending) for ending in endings)
    with write_atomic(own) as file:
        if compressed:
            packets = _PacketWriter(file, width_px)
            yield packets
            packets.write_index()
        else:
            array = _ArrayWriter(file, shape)
            yield array
            array.write_header()
    other.unlink(missing_ok=True)


def open_rows(name: Path, shape: tuple[int, ...]) -> Rows:
    """The rows of `shape` in the file `name`, whose form does not matter. Raises OSError or
    ValueError if there is none, or it is not whole."""
    file = name.with_name(name.name + _PLAIN)
    if file.exists():  # changes in memory do not reach the file
        return np.asarray(np.load(file, mmap_mode="c"))
    return _Packets(name.with_name(name.name + _COMPRESSED), shape)


def holds(name: Path, count: int, shape: tuple[int, ...]) -> bool:
    """Whether the file `name` is there and whole, with `count` rows of `shape`."""
    try:
        rows = open_rows(name, shape)
    except (OSError, ValueError, EOFError):
        return False
    if isinstance(rows, np.ndarray):
        return rows.shape == (count, *shape) and rows.dtype == np.uint8
    return isinstance(rows, _Packets) and len(rows) == count


class _ArrayWriter:
    def __init__(self, file: IO[bytes], shape: tuple[int, ...]) -> None:
        self._file, self._shape, self._count = file, shape, 0
        self._begin()
        self._start = file.tell()

    def append(self, row: Bytes) -> None:
        self._file.write(np.ascontiguousarray(row).tobytes())
        self._count += 1

    def write_header(self) -> None:
        """Now that the number of rows is known."""
        self._file.seek(0)
        self._begin()
        # numpy leaves room in the header for a longer first axis
        assert self._file.tell() == self._start
        self._file.seek(0, os.SEEK_END)

    def _begin(self) -> None:
        shape = (self._count, *self._shape)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)  # type: ignore[arg-type]


class _PacketWriter:
    def __init__(self, file: IO[bytes], width_px: int) -> None:
        self._file, self._width_px = file, width_px
        self._encoder: VideoCodecContext | None = None
        self._offsets = [0]

    def append(self, row: Bytes) -> None:
        picture = np.ascontiguousarray(row).reshape(-1, self._width_px)
        if self._encoder is None:
            self._encoder = _open_encoder(picture.shape)
        frame = av.VideoFrame.from_ndarray(picture, format=_FORMAT)
        frame.pts = len(self._offsets)
        (packet,) = self._encoder.encode(frame)
        self._file.write(bytes(packet))
        self._offsets.append(self._file.tell())

    def write_index(self) -> None:
        self._file.write(np.array(self._offsets, "<u8").tobytes())


def _open_encoder(shape: tuple[int, ...]) -> VideoCodecContext:
    encoder = _open_codec("w")
    encoder.height, encoder.width = shape
    encoder.pix_fmt, encoder.time_base, encoder.options = _FORMAT, Fraction(1, 25), _OPTIONS
    return encoder


def _open_codec(mode: Literal["r", "w"]) -> VideoCodecContext:
    context = av.CodecContext.create(_CODEC, mode)
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1  # clips are made, and samples read, by as many processes as are useful
    return context


class _Packets:
    """The rows of a compressed file. Use it from one thread at a time."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        """Raises OSError, or ValueError if the file is not whole."""
        self._path, self._shape = path, shape
        self._bytes = np.memmap(path, np.uint8, "r")  # ValueError if it is empty
        end = int.from_bytes(self._bytes[-8:].tobytes(), "little")
        if not 0 < end <= len(self._bytes) - 16 or (len(self._bytes) - end) % 8:
            raise ValueError(f"{path}: has no index")
        self._offsets = self._bytes[end:].view("<u8").astype(np.int64)
        if self._offsets[0] != 0 or (np.diff(self._offsets) <= 0).any():
            raise ValueError(f"{path}: its index is damaged")
        self._decoder = _open_codec("r")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> Bytes:
        """Raises DataError if the packet is damaged."""
        begin, end = self._offsets[index], self._offsets[index + 1]
        try:
            (frame,) = self._decoder.decode(av.Packet(self._bytes[begin:end].tobytes()))
            return np.asarray(frame.to_ndarray(), np.uint8).reshape(self._shape)
        except (av.FFmpegError, ValueError):
            raise DataError(
                f"{self._path}: is damaged; delete its folder, and it is made again"
            ) from None
