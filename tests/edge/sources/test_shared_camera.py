"""Several sources of one camera, over a real RTSP server: one connection, each its own view."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest

from edge.sources.multiplexer import CameraMultiplexer
from edge.sources.reconnect import ReconnectPolicy, SourceState
from edge.sources.uri import parse_address
from edge.video.frames import Frame
from edge.video.view import ViewCutter
from tests.support.rtsp import RtspServer, count_clients
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

POLICY = ReconnectPolicy(stall_s=10.0, first_s=0.1, longest_s=0.5)
VIEWS = {
    "whole": "",
    "left": "?region=0,0,0.5,1",
    "dark": "?region=0.25,0,0.75,0.5&mask=0.25,0,0.5,0,0.5,1",
}


class Watch:
    """What comes of the sources of some cameras, by name."""

    def __init__(self, cameras: CameraMultiplexer) -> None:
        self._cameras = cameras
        self.frames: dict[str, list[Frame]] = defaultdict(list)
        self.states: list[SourceState] = []

    def until(self, done: Callable[[], bool]) -> None:
        def ask() -> bool:
            arrival = self._cameras.next(0.5)
            self.states += self._cameras.states()
            if arrival is not None:
                name, frame = arrival
                self.frames[name].append(frame)
            return done()

        wait_until(ask, pause_s=0)

    def all_have(self, count: int, *names: str) -> None:
        """Until each of these has so many more frames."""
        wanted = {name: len(self.frames[name]) + count for name in names}
        self.until(lambda: all(len(self.frames[name]) >= wanted[name] for name in names))

    def states_of(self, name: str) -> list[str]:
        return [state.state for state in self.states if state.name == name]


def test_they_share_a_connection_and_each_has_its_view() -> None:
    with RtspServer(rate=25) as server, CameraMultiplexer() as cameras:
        watch = Watch(cameras)
        views = {name: cameras.add(name, server.url + v, POLICY) for name, v in VIEWS.items()}
        watch.all_have(10, *VIEWS)
        assert count_clients(server) == 1
        for name, view in views.items():
            assert view.received - view.dropped - len(watch.frames[name]) in (0, 1, 2)
    whole = {frame.index: frame for frame in watch.frames["whole"]}
    for name, view in VIEWS.items():
        frames = watch.frames[name]
        assert all(a.index < b.index for a, b in itertools.pairwise(frames))
        cut = ViewCutter(parse_address(server.url + view).view, name)
        both = [frame for frame in frames if frame.index in whole]
        assert both
        for frame in both:
            expected = cut(whole[frame.index])
            for plane in "yuv":
                np.testing.assert_array_equal(getattr(frame, plane), getattr(expected, plane))
    assert {name: watch.states_of(name) for name in VIEWS} == {name: ["running"] for name in VIEWS}
    assert len({state.id for state in watch.states}) == len(VIEWS)


def test_they_are_lost_together_and_come_back_together() -> None:
    with RtspServer(rate=25) as server, CameraMultiplexer() as cameras:
        watch = Watch(cameras)
        for name, view in VIEWS.items():
            cameras.add(name, server.url + view, POLICY)
        watch.all_have(3, *VIEWS)
        server.process.kill()
        server.process.wait()
        watch.until(lambda: all("lost" in watch.states_of(name) for name in VIEWS))
        before = {name: len(watch.frames[name]) for name in VIEWS}
        server.start_again()
        watch.until(lambda: all(watch.states_of(name)[-1] == "running" for name in VIEWS))
        watch.all_have(3, *VIEWS)
        assert count_clients(server) == 1
        for name in VIEWS:
            gaps = [number for number, f in enumerate(watch.frames[name]) if f.discontinuity]
            assert gaps
            assert gaps[0] >= before[name]  # and the first frame after it says so
    reasons = [state.reason for state in watch.states if state.state == "lost"]
    assert not any("region" in reason for reason in reasons)  # of a camera that others read too


def test_one_joins_and_leaves_without_a_gap_for_the_others() -> None:
    with RtspServer(rate=25) as server, CameraMultiplexer() as cameras:
        watch = Watch(cameras)
        cameras.add("whole", server.url, POLICY)
        watch.all_have(5, "whole")
        view = cameras.add("left", server.url + VIEWS["left"], POLICY)
        watch.all_have(5, "whole", "left")
        assert count_clients(server) == 1
        assert watch.states_of("left") == ["running"]  # known, though the camera ran before
        first = watch.frames["left"][0]
        assert (first.index, first.time_s) == (0, 0.0)
        assert view.received - view.dropped - len(watch.frames["left"]) in (-1, 0, 1, 2)
        cameras.remove("whole")  # the one that opened it
        watch.all_have(5, "left")
        assert count_clients(server) == 1
        cameras.remove("left")
        wait_until(lambda: count_clients(server) == 0)
    for name in ("whole", "left"):
        assert not any(frame.discontinuity for frame in watch.frames[name])
        assert watch.states_of(name) == ["running"]


def test_a_region_that_is_too_small_does_not_stop_the_others() -> None:
    with RtspServer(rate=25) as server, CameraMultiplexer() as cameras:
        watch = Watch(cameras)
        cameras.add("tiny", f"{server.url}?region=0,0,0.01,1", POLICY)
        cameras.add("left", server.url + VIEWS["left"], POLICY)
        watch.all_have(5, "left")
        (name,) = cameras.faults()
        assert (name, len(watch.frames[name])) == ("tiny", 0)
        assert "tiny: region is 4 x 240 px of its 320 x 240 picture" in str(cameras.faults()[name])


@pytest.mark.parametrize(
    "other", ["?rotate=180", "?region=0,0,0.5,1&rotate=90"], ids=["turned", "turned region"]
)
def test_a_camera_that_is_turned_is_read_apart(other: str) -> None:
    with RtspServer(rate=25) as server, CameraMultiplexer() as cameras:
        watch = Watch(cameras)
        cameras.add("whole", server.url, POLICY)
        cameras.add("other", server.url + other, POLICY)
        watch.all_have(2, "whole", "other")
        assert count_clients(server) == 2
