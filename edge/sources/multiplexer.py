"""Several cameras at once: each read by a thread of its own, their frames taken in turn.

    with CameraMultiplexer() as cameras:
        cameras.add("yard", ReconnectingSource(...))
        while cameras.any_left():
            for notice in cameras.notices(): ...
            if arrival := cameras.next(0.2):
                name, frame = arrival

Of each camera the newest frame waits, and takes the place of one that was not fetched: however slow
whoever fetches is, a frame is never older than the time between two of them when its turn comes.
A turn goes to the camera that has waited longest for one, so that all get the same share.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from types import TracebackType

from edge.errors import SourceError
from edge.sources.reconnect import ReconnectingSource, SourceState
from edge.video.frames import Frame

_END_S = 1.5  # for the readers to leave


@dataclass(eq=False)
class _Reader:
    name: str
    camera: ReconnectingSource
    turn: int  # of the last frame that was fetched
    thread: threading.Thread | None = None
    newest: Frame | None = None
    over: bool = False
    fault: SourceError | None = None


@dataclass
class CameraMultiplexer:
    """Everything but the reading itself happens in the caller's thread."""

    _news: threading.Condition = field(default_factory=threading.Condition)
    _readers: dict[str, _Reader] = field(default_factory=dict)
    _notices: deque[SourceState] = field(default_factory=deque)
    _turns: int = 0

    def __enter__(self) -> CameraMultiplexer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for reader in self._readers.values():
            reader.camera.stop()
        deadline_s = time.monotonic() + _END_S
        for reader in self._readers.values():
            assert reader.thread is not None
            reader.thread.join(max(deadline_s - time.monotonic(), 0))

    def tell(self, state: SourceState) -> None:
        """For the cameras, from whichever thread: what they do, until `notices` is asked."""
        with self._news:
            self._notices.append(state)
            self._news.notify()

    def notices(self) -> list[SourceState]:
        """What cameras have done since this was last asked."""
        with self._news:
            told = list(self._notices)
            self._notices.clear()
        return told

    def add(self, name: str, camera: ReconnectingSource) -> None:
        """Begin to read a camera."""
        reader = _Reader(name, camera, self._turns)
        self._readers[name] = reader
        reader.thread = threading.Thread(target=self._read, args=(reader,), daemon=True)
        reader.thread.start()

    def remove(self, name: str) -> None:
        """Stop reading a camera; what waits of it is dropped."""
        reader = self._readers.pop(name)
        reader.camera.stop()
        assert reader.thread is not None
        reader.thread.join(_END_S)

    def any_left(self) -> bool:
        """Whether a camera is still read or has a frame waiting."""
        with self._news:
            return any(not r.over or r.newest is not None for r in self._readers.values())

    def faults(self) -> dict[str, SourceError]:
        """By name, why a camera has failed for good."""
        with self._news:
            return {r.name: r.fault for r in self._readers.values() if r.fault is not None}

    def next(self, timeout_s: float) -> tuple[str, Frame] | None:
        """The next frame and its camera's name, or None where none comes within `timeout_s`."""
        with self._news:
            if not self._waiting():
                self._news.wait(timeout_s)
            waiting = self._waiting()
            if not waiting:
                return None
            reader = min(waiting, key=lambda each: each.turn)
            frame, reader.newest = reader.newest, None
            self._turns += 1
            reader.turn = self._turns
            assert frame is not None
            return reader.name, frame

    def _waiting(self) -> list[_Reader]:
        return [reader for reader in self._readers.values() if reader.newest is not None]

    def _read(self, reader: _Reader) -> None:
        """A reader's thread."""
        try:
            with reader.camera as camera:
                for frame in camera:
                    self._offer(reader, frame)
        except SourceError as error:
            reader.fault = error
        with self._news:
            reader.over = True
            self._news.notify()

    def _offer(self, reader: _Reader, frame: Frame) -> None:
        with self._news:
            if reader.newest is not None:
                reader.camera.replaced += 1
                # a gap before a frame that was not fetched is one before the next, too
                frame = replace(
                    frame, discontinuity=frame.discontinuity or reader.newest.discontinuity
                )
            reader.newest = frame
            self._news.notify()
