"""Memory that a kernel reads and writes, with what is known of each byte.

Checked at each access: alignment, bounds, whether anything has written what is read, and races:
two groups (threads between two barriers, or blocks of a launch) at one place, one of them writing.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# What a byte is, as in libcuda/gpu.h.
UNKNOWN, UNWRITTEN, WRITTEN, HOST_MAPPED, HOST_UNMAPPED = range(5)
_MAP_NORESERVE = 0x4000
_LOOK_BACK = 1 << 18  # bytes, for the buffer that an access leaves


class AccessError(Exception):
    """lane: whose access it is, an index into the addresses."""

    def __init__(self, lane: int, why: str) -> None:
        super().__init__(why)
        self.lane = lane


@dataclass(frozen=True, slots=True)
class Groups:
    """Who accesses memory. tags: the group of each lane, `first` or more, below `several`. Groups
    of earlier launches, or of the time before a barrier, are below `first`. another: one of them,
    in words."""

    tags: NDArray[np.int32]  # (lanes,)
    first: int
    several: int
    another: str

    def of(self, lanes: NDArray[np.intp]) -> Groups:
        return Groups(self.tags[lanes], self.first, self.several, self.another)


def lazy_zeros(count: int) -> NDArray[np.int32]:
    """Of which only the touched pages take memory, however many there are."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    return np.frombuffer(mmap.mmap(-1, 4 * max(count, 1), flags=flags), np.int32)


class Memory:
    """data, states: a byte and what it is, from the address `base` on; a multiple of 8 bytes."""

    def __init__(self, base: int, data: NDArray[np.uint8], states: NDArray[np.uint8]) -> None:
        self.base, self.data, self.states = base, data, states
        self._writers, self._readers = lazy_zeros(len(data)), lazy_zeros(len(data))
        self._accesses: dict[tuple[np.dtype, int, int], Access] = {}

    def access(self, dtype: np.dtype, count: int, grain: int) -> Access:
        """To `count` neighbours of one type at once. grain: bytes of the kernel's narrowest access,
        which is what races are looked for in."""
        key = dtype, count, grain
        if key not in self._accesses:
            self._accesses[key] = Access(self, dtype, count, grain)
        return self._accesses[key]

    def note_read(self, at: NDArray[np.int64], groups: Groups) -> None:
        """at: in grains. Raises AccessError if another group has written there."""
        readers, tags = self._readers, groups.tags
        self._check_writers(at, groups)
        before = readers[at]
        if before.max() < groups.first:
            readers[at] = tags
        else:
            others = (before >= groups.first) & (before != tags)
            readers[at] = np.where(others, groups.several, tags)
        together = readers[at] != tags
        if together.any():
            readers[at[together]] = groups.several

    def note_write(self, at: NDArray[np.int64], groups: Groups) -> None:
        """at: in grains. Raises AccessError if another group has read or written there."""
        tags = groups.tags
        self._check_writers(at, groups)
        readers = self._readers[at]
        if readers.max() >= groups.first:
            _refuse((readers >= groups.first) & (readers != tags), f"reads, {groups.another}")
        self._writers[at] = tags
        _refuse(self._writers[at] != tags, f"writes, {groups.another}")

    def _check_writers(self, at: NDArray[np.int64], groups: Groups) -> None:
        writers = self._writers[at]
        if writers.max() >= groups.first:
            others = (writers >= groups.first) & (writers != groups.tags)
            _refuse(others, f"writes, {groups.another}")


def _refuse(lanes: NDArray[np.bool_], other: str) -> None:
    if lanes.any():
        raise AccessError(int(lanes.argmax()), f"a race: it touches what {other}")


class Access:
    """Reads or writes of one width, for many lanes at once."""

    def __init__(self, memory: Memory, dtype: np.dtype, count: int, grain: int) -> None:
        size = dtype.itemsize
        self._memory, self._count, self._size = memory, count, size
        self._grains = size // grain
        self._shift = np.int64(size.bit_length() - 1)
        self._mask, self._limit = size * count - 1, len(memory.data) - size * count
        self._values, self._states = memory.data.view(dtype), memory.states.view(f"u{size}")
        self._written = int.from_bytes([WRITTEN] * size, "little")

    def read(self, addresses: NDArray[np.int64], groups: Groups) -> list[NDArray]:
        """The neighbours, each for all lanes. Raises AccessError."""
        values = []
        for at in self._places(addresses):
            self._check_states(at, write=False)
            for part in self._parts(at):
                self._memory.note_read(part, groups)
            values.append(self._values[at])
        return values

    def write(
        self, addresses: NDArray[np.int64], values: Sequence[NDArray], groups: Groups
    ) -> None:
        """values: the neighbours, each for all lanes, or one scalar. Raises AccessError."""
        for at, value in zip(self._places(addresses), values, strict=True):
            self._check_states(at, write=True)
            for part in self._parts(at):
                self._memory.note_write(part, groups)
            self._values[at] = value

    def _places(self, addresses: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Indices into an array of elements, for each neighbour."""
        at = addresses - self._memory.base
        if int(np.bitwise_or.reduce(at)) & self._mask:
            lane = int((at & self._mask != 0).argmax())
            raise AccessError(lane, f"an address that is no multiple of {self._mask + 1}")
        if at.view(np.uint64).max() > self._limit:
            lane = int(at.view(np.uint64).argmax())
            raise AccessError(lane, "an address in memory that the GPU does not have")
        at >>= self._shift
        return (at + k if k else at for k in range(self._count))

    def _parts(self, at: NDArray[np.int64]) -> Iterable[NDArray[np.int64]]:
        """In grains."""
        if self._grains == 1:
            return (at,)
        return (at * self._grains + k for k in range(self._grains))

    def _check_states(self, at: NDArray[np.int64], write: bool) -> None:
        unusual = self._states[at] != self._written
        if not unusual.any():
            return
        states = self._memory.states
        bytes_at = at[unusual, None] * self._size + np.arange(self._size)  # (unusual, size)
        found = states[bytes_at]
        missing = (found == UNKNOWN) | (found == HOST_UNMAPPED)
        if not write:
            missing |= found == UNWRITTEN
        if missing.any():
            row, column = np.unravel_index(missing.argmax(), missing.shape)
            why = self._explain(int(bytes_at[row, column]), write)
            raise AccessError(int(np.flatnonzero(unusual)[row]), why)
        if write:
            states[bytes_at[found == UNWRITTEN]] = WRITTEN

    def _explain(self, at: int, write: bool) -> str:
        states = self._memory.states
        what = f"{'writes' if write else 'reads'} {self._size} bytes"
        if states[at] == UNWRITTEN:
            return f"{what} that nothing has written"
        if states[at] == HOST_UNMAPPED:
            return f"{what} of host memory that is not mapped"
        before = np.flatnonzero(states[max(at - _LOOK_BACK, 0) : at][::-1])
        if len(before) == 0:
            return f"{what} in memory that the GPU does not have"
        return f"{what}, {before[0]} bytes beyond a buffer"
