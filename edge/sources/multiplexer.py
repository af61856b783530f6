"""Reads several cameras at once: one thread for each, their frames served in turn.

    with CameraMultiplexer() as cameras:
        cameras.add("yard", ReconnectingSource(...))
        while cameras.any_left():
            for state in cameras.states(): ...
            if arrival := cameras.next(0.2):
                name, frame = arrival

There is a one-frame buffer for each camera, and a newer frame replaces an older one: however slow
the caller is, a frame is no older than the camera's frame interval when it is served. The camera
that has waited longest is served first, so that all get the same share.
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

_END_S = 1.5  # for the threads to end


@dataclass(eq=False)
class _Reader:
    name: str
    camera: ReconnectingSource
    last_served: int  # rank of its last frame among all that were served
    thread: threading.Thread | None = None
    newest: Frame | None = None
    over: bool = False
    fault: SourceError | None = None


@dataclass
class CameraMultiplexer:
    """Everything except the reading itself happens in the caller's thread."""

    _news: threading.Condition = field(default_factory=threading.Condition)
    _readers: dict[str, _Reader] = field(default_factory=dict)
    _states: deque[SourceState] = field(default_factory=deque)
    _served: int = 0

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

    def on_state(self, state: SourceState) -> None:
        """Queue a camera's change of state for `states`. Called by cameras, from their threads."""
        with self._news:
            self._states.append(state)
            self._news.notify()

    def states(self) -> list[SourceState]:
        """The cameras' changes of state since the last call."""
        with self._news:
            states = list(self._states)
            self._states.clear()
        return states

    def add(self, name: str, camera: ReconnectingSource) -> None:
        """Start reading a camera."""
        reader = _Reader(name, camera, self._served)
        self._readers[name] = reader
        reader.thread = threading.Thread(target=self._read, args=(reader,), daemon=True)
        reader.thread.start()

    def remove(self, name: str) -> None:
        """Stop reading a camera; its waiting frame is dropped."""
        reader = self._readers.pop(name)
        reader.camera.stop()
        assert reader.thread is not None
        reader.thread.join(_END_S)

    def any_left(self) -> bool:
        """Whether a camera is still read or has a frame waiting."""
        with self._news:
            return any(not r.over or r.newest is not None for r in self._readers.values())

    def faults(self) -> dict[str, SourceError]:
        """Why cameras have failed for good, by name."""
        with self._news:
            return {r.name: r.fault for r in self._readers.values() if r.fault is not None}

    def next(self, timeout_s: float) -> tuple[str, Frame] | None:
        """The next frame and its camera's name, or None if none comes within `timeout_s`."""
        with self._news:
            if not self._waiting():
                self._news.wait(timeout_s)
            waiting = self._waiting()
            if not waiting:
                return None
            reader = min(waiting, key=lambda each: each.last_served)
            frame, reader.newest = reader.newest, None
            self._served += 1
            reader.last_served = self._served
            assert frame is not None
            return reader.name, frame

    def _waiting(self) -> list[_Reader]:
        return [reader for reader in self._readers.values() if reader.newest is not None]

    def _read(self, reader: _Reader) -> None:
        """Read a camera to its end; runs in its thread."""
        try:
            with reader.camera as camera:
                for frame in camera:
                    self._put(reader, frame)
        except SourceError as error:
            reader.fault = error
        with self._news:
            reader.over = True
            self._news.notify()

    def _put(self, reader: _Reader, frame: Frame) -> None:
        with self._news:
            if reader.newest is not None:
                reader.camera.replaced += 1
                # a gap before a replaced frame is a gap before the next one too
                frame = replace(
                    frame, discontinuity=frame.discontinuity or reader.newest.discontinuity
                )
            reader.newest = frame
            self._news.notify()
