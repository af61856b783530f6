"""Several cameras at once: fair turns, the newest frame of each, gaps that are not forgotten."""

from __future__ import annotations

import itertools
import json
import re
import socket
import urllib.request
from pathlib import Path

import av
import psutil
import pytest

from edge.errors import SourceError
from edge.sources.multiplexer import CameraMultiplexer
from edge.sources.reconnect import ReconnectPolicy, SourceState
from edge.video.frames import Frame
from tests.support.command import Running, assert_refused, growing, read_lines, twostream
from tests.support.rtsp import RtspServer
from tests.support.waiting import BOUND_S, wait_until

PATIENCE = ReconnectPolicy(stall_s=1.0, first_s=0.1, longest_s=0.5)


def next_of(cameras: CameraMultiplexer, name: str) -> Frame:
    """The next frame of one of them; those of others are passed by."""

    def ask() -> Frame | None:
        arrival = cameras.next(1.0)
        return arrival[1] if arrival is not None and arrival[0] == name else None

    return wait_until(ask, pause_s=0)


@pytest.mark.slow
def test_four_cameras_that_all_wait_are_served_in_turn_and_by_their_newest_frame() -> None:
    """Before each turn every camera's waiting frame has given way to a newer one."""
    served: dict[str, list[int]] = {name: [] for name in "abcd"}
    order: list[str] = []
    with CameraMultiplexer() as cameras:
        place = "test://?live=1&rate=50&pattern="
        members = {
            name: cameras.add(name, place + pattern, PATIENCE)
            for name, pattern in zip(served, ("ball", "smpte", "snow", "white"), strict=True)
        }
        for _ in range(40):
            before = {name: camera.replaced for name, camera in members.items()}
            wait_until(lambda b=before: all(members[n].replaced > b[n] for n in members), 0.005)
            arrival = cameras.next(0)
            assert arrival is not None
            order.append(arrival[0])
            served[arrival[0]].append(arrival[1].index)
    assert order[4:] == order[:-4]
    assert sorted(order[:4]) == list(served)
    for name, camera in members.items():
        indices = served[name]
        # in a queue each would be the one after the last
        assert all(b - a >= 4 for a, b in itertools.pairwise(indices))
        # the readers may not have left yet; one waits in the source, and one to be fetched
        wait_until(lambda c=camera, n=indices: c.received - c.dropped - len(n) in (0, 1, 2))


@pytest.mark.slow
def test_a_quiet_camera_does_not_hold_up_the_others() -> None:
    """One that answers nothing, and one that gives few frames beside one that gives many."""
    names: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as mute, CameraMultiplexer() as cameras:
        url = f"rtsp://127.0.0.1:{mute.getsockname()[1]}/cam"
        cameras.add("mute", url, PATIENCE, open_s=10 * BOUND_S)
        cameras.add("slow", "test://?live=1&rate=2", PATIENCE)
        cameras.add("fast", "test://?live=1&rate=50", PATIENCE)

        def enough() -> bool:
            if (arrival := cameras.next(1.0)) is not None:
                names.append(arrival[0])
            return names.count("slow") >= 3 and names.count("fast") >= 30

        wait_until(enough, pause_s=0)
        assert set(cameras.faults()) == set()
    assert set(names) == {"slow", "fast"}


@pytest.mark.slow
def test_a_gap_is_told_with_the_next_frame_that_is_fetched() -> None:
    with RtspServer(rate=25) as server, CameraMultiplexer() as cameras:
        view = cameras.add("yard", server.url, PATIENCE)
        assert not next_of(cameras, "yard").discontinuity
        server.process.kill()
        server.process.wait()
        told: list[SourceState] = []

        def is_lost() -> bool:
            told.extend(cameras.states())
            return told[-1].state == "lost"

        wait_until(is_lost)
        server.start_again()
        replaced = view.replaced
        wait_until(lambda: view.replaced >= replaced + 10)  # the first after the gap is long gone
        assert next_of(cameras, "yard").discontinuity
        assert not next_of(cameras, "yard").discontinuity
        told += cameras.states()
    assert told[0].state == "running"
    assert told[-1].state == "running"


def test_cameras_come_and_go() -> None:
    def resources() -> tuple[int, int]:
        process = psutil.Process()
        return process.num_fds(), process.num_threads()

    def visit() -> None:
        cameras.add("guest", "test://?live=1&pattern=ball", PATIENCE)
        next_of(cameras, "guest")
        cameras.remove("guest")

    with CameraMultiplexer() as cameras:
        cameras.add("stays", "test://?live=1", PATIENCE)
        for _ in range(2):
            visit()
        before = resources()
        for _ in range(4):
            visit()
        wait_until(lambda: all(a <= b + 2 for a, b in zip(resources(), before, strict=True)))
        arrivals = [wait_until(lambda: cameras.next(1.0)) for _ in range(3)]
    assert [name for name, _ in arrivals] == ["stays"] * 3


def test_one_that_ends_and_one_that_is_given_up() -> None:
    with CameraMultiplexer() as cameras:
        cameras.add("short", "test://?live=1&frames=5", PATIENCE)
        cameras.add("away", "rtsp://127.0.0.1:9/none", ReconnectPolicy(retries=0, wait=False))
        indices: list[int] = []

        def is_over() -> bool:
            if (arrival := cameras.next(0.2)) is not None:
                assert arrival[0] == "short"
                indices.append(arrival[1].index)
            return not cameras.any_left()

        wait_until(is_over, pause_s=0)
        assert indices[-1] == 4
        assert indices == sorted(set(indices))
        assert set(cameras.faults()) == {"away"}
        assert isinstance(cameras.faults()["away"], SourceError)


@pytest.mark.slow
def test_the_command_labels_all_of_them(tmp_path: Path, light_bundle: Path) -> None:
    names, out = ("yard", "gate", "roof"), tmp_path / "o.jsonl"
    cameras = [f"{name}=test://?live=1&rate=20" for name in names]
    words = ["run", light_bundle, *cameras[:2], "--source", cameras[2]]
    with Running(*words, "--json", out, "--video", tmp_path / "o.mkv") as run:
        for name in names:
            form = f'"source":"{name}","frame":\\d+,"time":[0-9.]+,"state":"running"'
            run.wait_until(lambda form=form: re.search(form, growing(out)))
        said = run.stop()
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    summaries = {row["summary"]["source"]: row["summary"] for row in lines if "summary" in row}
    for name in names:
        mine = [row for row in lines if row.get("source") == name and "frame" in row]
        frames, summary = [row["frame"] for row in mine], summaries[name]
        assert frames == sorted(set(frames))
        assert [row["state"] for row in mine][:10] == ["warming up"] * 10
        assert len(frames) == summary["frames"] - summary["skipped"]
        assert frames[-1] < summary["frames"] + summary["dropped"]  # none is left uncounted
        with av.open(str(tmp_path / f"o-{name}.mkv")) as container:
            assert sum(1 for _ in container.decode(video=0)) == len(mine)
        assert f"{name}:" in said


@pytest.mark.slow
def test_one_that_has_failed_does_not_end_the_others(tmp_path: Path, light_bundle: Path) -> None:
    words = ["away=rtsp://127.0.0.1:9/none", "here=test://?live=1&frames=40"]
    out = tmp_path / "o.jsonl"
    done = twostream(
        "run", light_bundle, *words, "--wait-for-cameras", "--retries", 1, "--json", out
    )
    assert done.returncode == 2, done.stderr
    assert "1 source could not be read: away" in done.stderr.splitlines()[-1]
    assert '"source":"away","source_state":"failed"' in out.read_text()
    labels, _ = read_lines(out)
    assert (labels[-1]["source"], labels[-1]["frame"]) == ("here", 39)  # read to its end
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    (here,) = (row["summary"] for row in lines if row.get("summary", {}).get("source") == "here")
    assert here["frames"] + here["dropped"] == 40
    done = twostream("run", light_bundle, *words)  # not waited for, it is an error at once
    assert_refused(done, "rtsp://127.0.0.1:9/none")


@pytest.mark.slow
def test_one_that_has_failed_stays_to_be_seen(light_bundle: Path) -> None:
    words = ["away=rtsp://127.0.0.1:9/none", "here=test://?live=1", "--wait-for-cameras"]
    with Running("run", light_bundle, *words, "--retries", 1, "--web", 0) as run:
        page = run.said(r"live page: (\S+)")[1]
        run.said("not read any further")

        def get(path: str) -> str:
            return urllib.request.urlopen(page + path, timeout=BOUND_S).read().decode()

        def states() -> dict[str, str]:
            shown = json.loads(get("state.json"))
            return {source["name"]: source["source_state"]["state"] for source in shown["sources"]}

        run.wait_until(lambda: states() == {"away": "failed", "here": "running"})
        assert 'twostream_up{camera="away"} 0' in get("metrics")
        assert "away" in run.stop(code=2).splitlines()[-1]
