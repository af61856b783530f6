"""Cameras that fail: a real RTSP server, killed and stalled, and what is seen of it after that."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import av
import psutil
import pytest

from edge.errors import SourceError
from edge.sources.reconnect import ReconnectingSource, ReconnectPolicy, SourceState
from edge.video.frames import Frame
from tests.support.command import Running, growing, read_lines
from tests.support.rtsp import RtspServer
from tests.support.waiting import BOUND_S, wait_until

QUICK = ReconnectPolicy(stall_s=1.0, first_s=0.1, longest_s=1.0)
AWAY_S = 0.5


class Seen(NamedTuple):
    """A frame, and the monotonic times when it was asked for and when it was there."""

    asked_s: float
    came_s: float
    index: int
    time_s: float
    discontinuity: bool


class Watcher(threading.Thread):
    """Reads a camera and notes what came, and what was told."""

    def __init__(self, url: str, patience: ReconnectPolicy) -> None:
        super().__init__(daemon=True)
        self.states: list[SourceState] = []
        self.frames: list[Seen] = []
        self.fault: SourceError | None = None
        self.camera = ReconnectingSource(url, patience, self.states.append)

    def run(self) -> None:
        try:
            with self.camera as camera:
                asked_s = time.monotonic()
                for frame in camera:
                    now_s = time.monotonic()
                    place = (frame.index, frame.time_s, frame.discontinuity)
                    self.frames.append(Seen(asked_s, now_s, *place))
                    asked_s = now_s
        except SourceError as error:
            self.fault = error

    def wait_for(self, count: int) -> None:
        """Until so many more frames have come."""
        wanted = len(self.frames) + count
        wait_until(lambda: len(self.frames) >= wanted)

    def wait_for_state(self, state: str) -> SourceState:
        wait_until(lambda: self.states and self.states[-1].state == state)
        return self.states[-1]

    def stop(self) -> None:
        self.camera.stop()
        self.join(BOUND_S)
        assert not self.is_alive()


@pytest.fixture
def server() -> Iterator[RtspServer]:
    with RtspServer(rate=30) as running:
        yield running


@pytest.mark.slow
def test_a_killed_camera_comes_back_and_its_times_go_on(server: RtspServer) -> None:
    watcher = Watcher(server.url, QUICK)
    watcher.start()
    watcher.wait_for(5)
    away_s = []
    for _ in range(3):
        server.process.kill()
        server.process.wait()
        watcher.wait_for_state("lost")
        lost_s = time.monotonic()
        time.sleep(AWAY_S)
        away_s.append(time.monotonic() - lost_s)
        server.start_again()
        watcher.wait_for(10)
    watcher.stop()
    pairs = list(itertools.pairwise(watcher.frames))
    assert all(a.index < b.index and a.time_s < b.time_s for a, b in pairs)
    gaps = [(a, b) for a, b in pairs if b.discontinuity]
    assert 3 <= len(gaps) <= watcher.camera.connections - 1  # some more where it stalled, too
    # as long as the camera was away, at least, and not longer than nothing was seen of it
    assert sum(b.time_s - a.time_s >= min(away_s) for a, b in gaps) >= 3
    assert all(b.time_s - a.time_s <= b.came_s - a.asked_s + 0.5 for a, b in gaps)
    assert watcher.states[0].state == watcher.states[-1].state == "running"


@pytest.mark.slow
def test_a_stalled_camera_is_noticed_and_comes_back(server: RtspServer) -> None:
    watcher = Watcher(server.url, QUICK)
    watcher.start()
    watcher.wait_for(5)
    os.kill(server.process.pid, signal.SIGSTOP)
    assert "no frame for 1 s" in watcher.wait_for_state("lost").reason
    os.kill(server.process.pid, signal.SIGCONT)
    watcher.wait_for(1)
    watcher.wait_for_state("running")
    watcher.stop()


@pytest.mark.slow
def test_patience_ends_where_it_is_told_to(server: RtspServer) -> None:
    watcher = Watcher(
        server.url, ReconnectPolicy(stall_s=1.0, first_s=0.05, longest_s=0.1, retries=3)
    )
    watcher.start()
    watcher.wait_for(3)
    server.process.kill()
    watcher.join(BOUND_S)
    assert "4 failures in a row" in str(watcher.fault)
    pauses = [state.retry_s for state in watcher.states if state.state == "lost"]
    assert pauses[-3:] == [0.05, 0.1, 0.1]


def test_a_camera_that_is_not_there_is_an_error_or_waited_for() -> None:
    url = "rtsp://127.0.0.1:9/none"
    with pytest.raises(SourceError), ReconnectingSource(url, QUICK, lambda state: None):
        pass
    watcher = Watcher(url, ReconnectPolicy(wait=True, first_s=0.05, longest_s=0.1))
    watcher.start()
    wait_until(lambda: watcher.states and watcher.states[-1].failures > 2)
    watcher.stop()
    assert watcher.fault is None


@pytest.mark.slow
def test_nothing_leaks_over_many_connections(server: RtspServer) -> None:
    def resources() -> tuple[int, int]:
        process = psutil.Process()
        return process.num_fds(), process.num_threads()

    def look() -> list[Frame]:
        with ReconnectingSource(server.url, QUICK, lambda state: None) as camera:
            return [next(camera)]

    for _ in range(2):
        look()
    before = resources()
    for _ in range(6):
        look()
    wait_until(lambda: all(a <= b + 2 for a, b in zip(resources(), before, strict=True)))


@pytest.mark.slow
def test_a_second_client_is_not_shown_what_cannot_be_restored() -> None:
    """It comes in between two key frames: grey pictures, until the next one."""
    with RtspServer(rate=25, key_frames=75) as server:
        first = Watcher(server.url, QUICK)
        first.start()
        first.wait_for(20)

        def came_in_between() -> bool:
            with ReconnectingSource(server.url, QUICK, lambda state: None) as second:
                frame = next(second)
                assert int(frame.y.min()) < 20  # the pattern's black, not a grey of 128 with edges
                assert int(frame.y.max()) > 230
                return second.damaged > 0

        wait_until(came_in_between)
        first.stop()


def states_of(lines: list[str]) -> str:
    """The states of labels, in their order and without those that repeat the one before."""
    names = ("warming up", "running")
    told = (name for line in lines for name in names if f'"state":"{name}"' in line)
    return ", ".join(name for name, _ in itertools.groupby(told))


@pytest.mark.slow
def test_the_command_goes_on_after_a_restart(server: RtspServer, light_bundle: Path) -> None:
    with Running("run", light_bundle, server.url, "--json", "-") as run:
        run.wait_until(lambda: states_of(run.lines) == "warming up, running")
        server.process.kill()
        server.process.wait()
        run.said("lost")
        before = len(run.lines)
        server.start_again()
        # no stack reaches over the gap
        run.wait_until(lambda: states_of(run.lines[before:]).startswith("warming up, running"))
        assert "running again" in run.stop()


@pytest.mark.slow
def test_a_camera_may_come_back_with_another_size(
    server: RtspServer, light_bundle: Path, tmp_path: Path
) -> None:
    video, labels = tmp_path / "o.mkv", tmp_path / "o.jsonl"

    def labelled() -> int:
        return growing(labels).count('"running","label"')

    with Running("run", light_bundle, server.url, "--video", video, "--json", labels) as run:
        run.wait_until(lambda: labelled() >= 10)
        server.process.kill()
        server.process.wait()
        run.said("lost")
        before = labelled()
        server.start_again(size_hw=(480, 720))
        run.wait_until(lambda: labelled() >= before + 10)
        run.stop()
    with av.open(str(video)) as container:
        sizes = [(frame.height, frame.width) for frame in container.decode(video=0)]
    rows, summary = read_lines(labels)
    assert sizes == [(480, 640)] * len(rows)  # later pictures are scaled to the file's
    assert summary["gaps"] >= 1


@pytest.mark.slow
def test_a_stalled_camera_does_not_hold_up_the_end(
    server: RtspServer, light_bundle: Path, tmp_path: Path
) -> None:
    """How soon it ends is measured by tests.benchmarks.cameras."""
    labels = tmp_path / "o.jsonl"
    with Running("run", light_bundle, server.url, "--json", labels) as run:
        run.wait_until(lambda: '"running","label"' in growing(labels))
        os.kill(server.process.pid, signal.SIGSTOP)
        run.said("lost")
        run.stop()  # while the camera is still stalled
    _, summary = read_lines(labels)
    assert summary["frames"] > 10
