"""The last seconds of a camera as compressed pictures, in bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

RING_BYTES = 64 << 20  # of one camera


@dataclass(frozen=True, slots=True)
class Packet:
    """One compressed picture, in the order of decoding.

    caps: of its stream, as GStreamer writes them. pts_ns: when it is shown, on the clock of its
    stream. time_s: on the clock of its ring. key: it needs no other picture.
    """

    data: bytes
    caps: str
    pts_ns: int
    time_s: float
    key: bool


class PacketSink(Protocol):
    """What gets the packets of a camera, from the thread that reads it."""

    def begin_stream(self) -> None: ...

    def push(self, packet: Packet) -> None: ...


@dataclass(slots=True)
class _Group:
    """A key frame and the pictures up to the next one. stream: number of the stream within the
    ring."""

    stream: int
    packets: list[Packet] = field(default_factory=list)
    size: int = 0

    @property
    def begin_s(self) -> float:
        return self.packets[0].time_s


class PacketRing:
    """Keeps packets from the time on that was last given to `hold`; forgets whole groups, so that
    what it holds begins with a key frame. Thread-safe.

    Its memory is bounded by `limit_bytes`, and by half of that while nothing is recorded, so that a
    recording that begins has room to grow. A group that is larger is forgotten up to the next key
    frame.
    """

    def __init__(self, limit_bytes: int = RING_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._groups: deque[_Group] = deque()
        self._size = 0
        self._stream = 0
        self._from_s, self._recording = float("-inf"), False

    def begin_stream(self) -> None:
        """Packets from now on are of another stream: the camera was opened again."""
        with self._lock:
            self._stream += 1

    def push(self, packet: Packet) -> None:
        """Add a packet; one before the first key frame of its stream is of no use."""
        with self._lock:
            if packet.key:
                self._groups.append(_Group(self._stream))
            elif not self._groups or self._groups[-1].stream != self._stream:
                return
            group = self._groups[-1]
            group.packets.append(packet)
            group.size += len(packet.data)
            self._size += len(packet.data)
            self._forget()

    def hold(self, from_s: float, recording: bool) -> None:
        """Keep what was pushed from this time on, and the key frame before. recording: a clip is to
        be made of it."""
        with self._lock:
            self._from_s, self._recording = from_s, recording

    def between(self, from_s: float, to_s: float, stream: int) -> list[Packet]:
        """The packets of a stream from the last key frame at or before `from_s`, or the first that
        there is, up to `to_s`."""
        with self._lock:
            groups = [group for group in self._groups if group.stream == stream]
        later = (n for n, group in enumerate(groups) if group.begin_s > from_s)
        first = max(next(later, len(groups)) - 1, 0)
        packets = [packet for group in groups[first:] for packet in group.packets]
        return [packet for packet in packets if packet.time_s <= to_s]

    def full(self, begin_s: float) -> bool:
        """Whether what was pushed at `begin_s` is about to be forgotten for want of room."""
        with self._lock:
            nearly = self._size > 0.9 * self.limit_bytes
            return nearly and (len(self._groups) < 2 or self._groups[1].begin_s > begin_s)

    @property
    def stream(self) -> int:
        """The number of the newest stream."""
        with self._lock:
            return self._stream

    @property
    def newest_s(self) -> float | None:
        """The time of the newest packet of the newest stream; None: there is none."""
        with self._lock:
            last = self._groups[-1] if self._groups else None
            return last.packets[-1].time_s if last and last.stream == self._stream else None

    @property
    def size_bytes(self) -> int:
        with self._lock:
            return self._size

    def _forget(self) -> None:
        limit = self.limit_bytes if self._recording else self.limit_bytes // 2
        while len(self._groups) > 1 and (
            self._groups[1].begin_s <= self._from_s or self._size > limit
        ):
            self._size -= self._groups.popleft().size
        if self._size > limit:
            self._groups.clear()
            self._size = 0


class PacketRings:
    """The rings of all sources that share a camera: each gets all packets while it is one of them.
    Thread-safe."""

    def __init__(self) -> None:
        self._rings: tuple[PacketRing, ...] = ()  # replaced as a whole, never changed

    def add(self, ring: PacketRing) -> None:
        ring.begin_stream()
        self._rings = (*self._rings, ring)

    def remove(self, ring: PacketRing) -> None:
        self._rings = tuple(each for each in self._rings if each is not ring)

    def begin_stream(self) -> None:
        for ring in self._rings:
            ring.begin_stream()

    def push(self, packet: Packet) -> None:
        for ring in self._rings:
            ring.push(packet)
