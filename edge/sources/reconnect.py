"""A camera that is opened again after it was lost.

    with ReconnectingSource("rtsp://camera/stream", ReconnectPolicy(), on_state) as camera:
        for frame in camera: ...

A camera that ends or stalls is closed and opened again after growing pauses; a network camera as
soon as its port opens. Stream times include the length of the gap, so that the time between any two
frames is right.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Literal
from urllib.parse import urlsplit

from edge.errors import SourceError
from edge.event_id import new_event_id
from edge.sources.gst_source import GStreamerSource, open_camera
from edge.sources.uri import parse_address
from edge.video.frames import Frame
from edge.video.packets import PacketSink

_PROBE_S = 0.1  # how often a network camera's port is tried and a request to stop is checked
_PORTS = {"rtsp": 554, "rtspu": 554, "rtsps": 322, "http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ReconnectPolicy:
    """When a camera is opened again, and when it has failed.

    stall_s: a camera that gives no frame for this long is lost. retries: after more failures in a
    row it has failed; None: never. first_s, longest_s: the pause after a failure, doubled each
    time. wait: also wait for a camera that cannot be opened at the start.
    """

    stall_s: float = 2.0
    retries: int | None = None
    first_s: float = 0.2
    longest_s: float = 15.0
    wait: bool = False


@dataclass(frozen=True, slots=True)
class SourceState:
    """The state of a source; a failed one is not read any further.

    reason: why it is lost or has failed, in one line; failures: in a row; retry_s: the pause before
    the next attempt; frame_rate: frames a second of a running camera, if it states one. id: the
    same in every output and at every delivery.
    """

    name: str
    state: Literal["running", "lost", "failed"]
    reason: str = ""
    failures: int = 0
    retry_s: float = 0.0
    frame_rate: float | None = None
    id: str = field(default_factory=new_event_id, compare=False)


class ReconnectingSource:
    """An iterator of frames that ends when it is stopped or its policy gives up.

    Counts are the sum over all connections; see edge.sources.source.Source for their meaning.
    """

    def __init__(
        self,
        uri: str,
        policy: ReconnectPolicy,
        on_state: Callable[[SourceState], None],
        open_s: float = 10.0,
        packets: PacketSink | None = None,
        vectors: bool = False,
    ) -> None:
        """on_state: called at each change of state, from the thread that reads. open_s: how long a
        camera may take to give its first frame. packets: gets its compressed pictures, if it
        sends H.264 or H.265. vectors: frames have the motion vectors of their codec.

        Raises SourceError if the address is malformed or names a device that does not exist.
        """
        self._uri, self._policy, self._on_state, self._open_s = uri, policy, on_state, open_s
        self._packets, self._vectors = packets, vectors
        self._stop = threading.Event()
        self._source: GStreamerSource | None = None
        self._before = _Counts()
        self._failures = 0
        self._timeline = _Timeline()
        address = parse_address(uri)
        self._ends = address.kind == "test"  # once all of its frames were read
        self.name = address.name
        self.frame_rate: float | None = None
        self.warnings: list[str] = []
        self.connections = 0

    @property
    def received(self) -> int:
        return self._before.received + (self._source.received if self._source else 0)

    @property
    def dropped(self) -> int:
        return self._before.dropped + (self._source.dropped if self._source else 0)

    @property
    def damaged(self) -> int:
        return self._before.damaged + (self._source.damaged if self._source else 0)

    def stop(self) -> None:
        """End the iteration soon, also while waiting for the camera. Thread-safe."""
        self._stop.set()
        if (source := self._source) is not None:
            source.stop()

    def __enter__(self) -> ReconnectingSource:
        while self._source is None and not self._stop.is_set():
            try:
                self._connect()
            except SourceError as error:
                if not self._policy.wait:
                    raise
                self._lose(str(error))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        while not self._stop.is_set():
            try:
                if self._source is None:
                    self._connect()
                assert self._source is not None
                frame = self._timeline.place(next(self._source))
                self._failures = 0
                return frame
            except StopIteration:
                if self._ends:
                    break
                reason = "the stream has ended"
            except SourceError as error:
                reason = str(error)
            self._lose(reason)
        raise StopIteration

    def _connect(self) -> None:
        source = self._source = open_camera(
            self._uri, timeout_s=self._open_s, packets=self._packets, vectors=self._vectors
        )
        source.told.update(self.warnings)
        if self._stop.is_set():
            source.stop()
        try:
            source.__enter__()
        except SourceError:
            self._source = None
            raise
        source.timeout_s = self._policy.stall_s
        self.frame_rate = source.frame_rate
        self.connections += 1
        self._timeline.begin_connection()
        self._on_state(SourceState(self.name, "running", frame_rate=self.frame_rate))

    def _lose(self, reason: str) -> None:
        """Close the connection, report it and pause. Raises SourceError after too many failures."""
        self._close()
        self._failures += 1
        policy = self._policy
        if self._stop.is_set():
            return
        if policy.retries is not None and self._failures > policy.retries:
            raise SourceError(f"{reason} ({self._failures} failures in a row)")
        pause_s = min(policy.first_s * 2 ** min(self._failures - 1, 20), policy.longest_s)
        self._on_state(SourceState(self.name, "lost", reason, self._failures, pause_s))
        deadline_s = time.monotonic() + pause_s
        was_open = self._port_is_open()
        while time.monotonic() < deadline_s and not self._stop.wait(_PROBE_S):
            if not was_open and self._port_is_open():
                return

    def _port_is_open(self) -> bool:
        """Whether a network camera accepts connections; False for other kinds of cameras."""
        parts = urlsplit(self._uri)
        if parts.scheme not in _PORTS or not parts.hostname:
            return False
        port = parts.port or _PORTS[parts.scheme]
        try:
            socket.create_connection((parts.hostname, port), timeout=_PROBE_S).close()
        except OSError:
            return False
        return True

    def _close(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.__exit__(None, None, None)
            self._before.add(source)
            new = [text for text in source.warnings if text not in self.warnings]
            self.warnings += new[: max(20 - len(self.warnings), 0)]


@dataclass(slots=True)
class _Timeline:
    """Counts indices and times over all connections, gaps included.

    last: (index, stream time, monotonic time) of the newest frame.
    """

    base: int = 0
    offset_s: float = 0.0
    discontinuity: bool = False
    last: tuple[int, float, float] | None = None

    def begin_connection(self) -> None:
        if self.last is not None:
            index, stream_s, seen_s = self.last
            self.base, self.offset_s = index + 1, stream_s + time.monotonic() - seen_s
            self.discontinuity = True

    def place(self, frame: Frame) -> Frame:
        placed = replace(
            frame,
            index=frame.index + self.base,
            time_s=frame.time_s + self.offset_s,
            discontinuity=self.discontinuity,
        )
        self.discontinuity = False
        self.last = (placed.index, placed.time_s, time.monotonic())
        return placed


@dataclass(slots=True)
class _Counts:
    received: int = 0
    dropped: int = 0
    damaged: int = 0

    def add(self, source: GStreamerSource) -> None:
        self.received += source.received
        self.dropped += source.dropped
        self.damaged += source.damaged
