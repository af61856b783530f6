"""Reads several cameras at once: one thread for each, their frames served in turn.

    with CameraMultiplexer() as cameras:
        view = cameras.add("yard", "rtsp://camera/stream", ReconnectPolicy())
        while cameras.any_left():
            for state in cameras.states(): ...
            if arrival := cameras.next(0.2):
                name, frame = arrival

Sources whose addresses differ in region and mask alone share one camera: it is opened and decoded
once, and each of them has its view of it.

There is a one-frame buffer for each source, and a newer frame replaces an older one: however slow
the caller is, a frame is no older than the camera's frame interval when it is served. The source
that has waited longest is served first, so that all get the same share.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from types import TracebackType

from edge.errors import SourceError
from edge.event_id import new_event_id
from edge.sources.camera_view import CameraView
from edge.sources.reconnect import ReconnectingSource, ReconnectPolicy, SourceState
from edge.sources.uri import parse_address, without_view
from edge.video.frames import Frame
from edge.video.orientation import UPRIGHT
from edge.video.packets import PacketRing, PacketRings
from edge.video.view import WHOLE

_END_S = 1.5  # for the threads to end


@dataclass(eq=False)
class _Camera:
    """A camera that is read. place: its address without a view. state: the newest; over: it is not
    read any more, because of `fault`, if it has one."""

    place: str
    rings: PacketRings
    views: list[CameraView] = field(default_factory=list)
    state: SourceState | None = None
    over: bool = False
    fault: SourceError | None = None
    source: ReconnectingSource = field(init=False)
    thread: threading.Thread = field(init=False)


@dataclass
class CameraMultiplexer:
    """Everything except the reading itself happens in the caller's thread.

    packets: keep the last compressed pictures of cameras, for sources that are the whole camera as
    it is: a clip shows what is labelled, and nothing that is masked. vectors: frames have the
    motion vectors of their codec.
    """

    packets: bool = False
    vectors: bool = False
    _news: threading.Condition = field(default_factory=threading.Condition)
    _cameras: list[_Camera] = field(default_factory=list)
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
        for camera in self._cameras:
            camera.source.stop()
        deadline_s = time.monotonic() + _END_S
        for camera in self._cameras:
            camera.thread.join(max(deadline_s - time.monotonic(), 0))

    def states(self) -> list[SourceState]:
        """The sources' changes of state since the last call."""
        with self._news:
            states = list(self._states)
            self._states.clear()
        return states

    def add(self, name: str, uri: str, policy: ReconnectPolicy, open_s: float = 10.0) -> CameraView:
        """Start reading a source: open its camera, or join it where another source reads it
        already, with the policy that it was opened with. open_s: see ReconnectingSource.

        Raises SourceError if the address is malformed or names a device that does not exist.
        """
        address, place = parse_address(uri), without_view(uri)
        as_is = address.orientation == UPRIGHT and address.view == WHOLE
        packets = PacketRing() if self.packets and as_is else None
        with self._news:
            shared = next((c for c in self._cameras if c.place == place and not c.over), None)
            camera = shared or self._open(place, policy, open_s)
            view = CameraView(name, address.view, camera.source, packets)
            view.last_served = self._served
            if packets is not None:
                camera.rings.add(packets)
            camera.views.append(view)
            if camera.state is not None:
                self._states.append(_of(view, camera.state))
        if shared is None:
            self._cameras.append(camera)
            camera.thread.start()
        return view

    def remove(self, name: str) -> None:
        """Stop reading a source; its waiting frame is dropped. A camera that no other source reads
        is closed."""
        camera, view = next(found for found in self._views() if found[1].name == name)
        with self._news:
            camera.views.remove(view)
        if view.packets is not None:
            camera.rings.remove(view.packets)
        if not camera.views:
            self._cameras.remove(camera)
            camera.source.stop()
            camera.thread.join(_END_S)
        view.end()

    def any_left(self) -> bool:
        """Whether a source is still read or has a frame waiting."""
        with self._news:
            return any(
                view.newest is not None or (view.fault is None and not camera.over)
                for camera, view in self._views()
            )

    def faults(self) -> dict[str, SourceError]:
        """Why sources have failed for good, by name."""
        with self._news:
            faults = {view.name: view.fault or camera.fault for camera, view in self._views()}
        return {name: fault for name, fault in faults.items() if fault is not None}

    def next(self, timeout_s: float) -> tuple[str, Frame] | None:
        """The next frame and its source's name, or None if none comes within `timeout_s`."""
        with self._news:
            if not self._waiting():
                self._news.wait(timeout_s)
            waiting = self._waiting()
            if not waiting:
                return None
            view = min(waiting, key=lambda each: each.last_served)
            frame, view.newest = view.newest, None
            self._served += 1
            view.last_served = self._served
            assert frame is not None
            return view.name, frame

    def _views(self) -> list[tuple[_Camera, CameraView]]:
        return [(camera, view) for camera in self._cameras for view in camera.views]

    def _waiting(self) -> list[CameraView]:
        return [view for _, view in self._views() if view.newest is not None]

    def _open(self, place: str, policy: ReconnectPolicy, open_s: float) -> _Camera:
        camera = _Camera(place, PacketRings())
        camera.source = ReconnectingSource(
            place,
            policy,
            lambda state: self._on_state(camera, state),
            open_s,
            packets=camera.rings if self.packets else None,
            vectors=self.vectors,
        )
        camera.thread = threading.Thread(target=self._read, args=(camera,), daemon=True)
        return camera

    def _on_state(self, camera: _Camera, state: SourceState) -> None:
        """Queue a camera's change of state for each of its sources; called in its thread."""
        with self._news:
            camera.state = state
            self._states += [_of(view, state) for view in camera.views]
            self._news.notify()

    def _read(self, camera: _Camera) -> None:
        """Read a camera to its end; runs in its thread."""
        try:
            with camera.source as frames:
                for frame in frames:
                    self._put(camera, frame)
        except SourceError as error:
            camera.fault = error
        with self._news:
            camera.over = True
            self._news.notify()

    def _put(self, camera: _Camera, frame: Frame) -> None:
        with self._news:
            views = list(camera.views)
        for view in views:
            seen = view.see(frame)
            with self._news:
                if seen is not None:
                    view.put(seen)
                self._news.notify()


def _of(view: CameraView, state: SourceState) -> SourceState:
    """A camera's state as that of one of its sources."""
    return replace(state, name=view.name, id=new_event_id())
