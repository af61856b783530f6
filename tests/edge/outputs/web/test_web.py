"""The live page: what a real browser shows, and what is given to whom."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import OutputError
from edge.outputs.listen_address import parse_listen
from tests.support.browser import BROWSER, BROWSERS, open_tab, stream_pixels
from tests.support.command import Running, assert_refused, twostream
from tests.support.live_page import TOKEN
from tests.support.rtsp import RtspServer
from tests.support.waiting import BOUND_S


class PageRun(Running):
    """`twostream run` on a camera, with a page at `url`."""

    def __init__(self, bundle: Path, camera: str, *more: str) -> None:
        super().__init__("run", bundle, camera, "--web", 0, *more)

    def __enter__(self) -> PageRun:
        super().__enter__()
        self.url = self.said(r"live page: (http://\S+)")[1]
        return self

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        request = urllib.request.Request(self.url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=BOUND_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def state(self, **headers: str) -> dict:
        """Of the first source."""
        status, body = self.get("state.json", **headers)
        if status == 429:  # after a wrong token one waits for a while
            return {"state": "not told"}
        found = json.loads(body)
        return found["sources"][0] if found["sources"] else {"state": "starting"}

    def labelled(self, token: str = "") -> dict:
        """The state, once there is a label and it has been counted."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}

        def ask() -> dict | None:
            found = self.state(**headers)
            running = found["state"] == "running"
            return found if running and found["counts"].get("labelled") else None

        return self.wait_until(ask)


@pytest.fixture(scope="module")
def server() -> Iterator[RtspServer]:
    with RtspServer(rate=25, user="bob", password="hunter2") as running:
        yield running


@pytest.fixture(scope="module")
def url(server: RtspServer) -> str:
    return f"rtsp://bob:hunter2@127.0.0.1:{server.port}/cam"


@pytest.fixture(scope="module")
def run(demo_bundle: Path, url: str) -> Iterator[PageRun]:
    with PageRun(demo_bundle, url) as running:
        running.labelled()
        yield running


@pytest.mark.slow
def test_the_state_says_what_is_seen(run: PageRun) -> None:
    found = run.labelled()
    assert found["source_state"]["state"] == "running"
    assert found["label"] == "unknown"
    for stream in ("spatial", "temporal"):
        scores = [score for _, score in found["streams"][stream]]
        assert len(scores) == 5
        assert scores == sorted(scores, reverse=True)
    assert found["latency_ms"] > 0
    counts = found["counts"]
    later = run.wait_until(
        lambda: (c := run.state()["counts"])["labelled"] > counts["labelled"] and c
    )
    assert later["received"] >= later["labelled"] + later["dropped"]


def test_pictures_come_one_after_another(run: PageRun) -> None:
    pictures: list[np.ndarray | None] = []
    with urllib.request.urlopen(run.url + "live.mjpg", timeout=BOUND_S) as answer:
        assert answer.headers.get_content_type() == "multipart/x-mixed-replace"
        while len(pictures) < 3:
            line = answer.readline()
            if line.lower().startswith(b"content-length:"):
                answer.readline()
                data = answer.read(int(line.split(b":")[1]))
                pictures.append(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    assert all(picture is not None and picture.std() > 10 for picture in pictures)
    assert any((a != pictures[0]).any() for a in pictures[1:])


def test_metrics_are_prometheus_text(run: PageRun) -> None:
    status, text = run.get("metrics")
    assert status == 200
    rows = [line for line in text.decode().splitlines() if not line.startswith("#")]
    assert rows
    assert all(re.fullmatch(r"twostream_\w+\{[^}]*\} [0-9.e+-]+", row) for row in rows), rows
    values = {row.rpartition(" ")[0].split("{")[0]: float(row.rpartition(" ")[2]) for row in rows}
    assert values["twostream_up"] == 1
    assert values["twostream_labelled_total"] >= 1
    buckets = [row for row in rows if row.startswith("twostream_stage_seconds_bucket")]
    counts = [float(row.rpartition(" ")[2]) for row in buckets if 'stage="latency"' in row]
    assert counts == sorted(counts)
    assert values["twostream_stage_seconds_count"] >= 1
    described = set(re.findall(r"^# HELP (\w+) \S", text.decode(), re.MULTILINE))
    typed = dict(re.findall(r"^# TYPE (\w+) (\w+)", text.decode(), re.MULTILINE))
    assert described == set(typed)
    assert all(name.endswith("_total") for name, kind in typed.items() if kind == "counter")
    assert typed["twostream_stage_seconds"] == "histogram"


def test_no_password_is_told_and_no_other_file_given(run: PageRun) -> None:
    for path in ("", "state.json", "metrics"):
        assert b"hunter2" not in run.get(path)[1]
    for path in ("../../etc/passwd", "page.html", "state.json/..", "%2e%2e/setup.cfg"):
        assert run.get(path)[0] == 404


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is on the PATH")
@pytest.mark.parametrize("size", [(1200, 760), (390, 1250)])
def test_a_browser_shows_it(run: PageRun, size: tuple[int, int], tmp_path: Path) -> None:
    shot = tmp_path / "page.png"
    filled = "[...document.querySelectorAll('.track div')].filter(bar => bar.clientWidth > 20)"

    async def look() -> None:
        async with open_tab("about:blank", tmp_path / "browser") as tab:
            await tab.load(run.url, *size)
            await tab.wait_for(f"new Set({filled}.map(b => b.style.background)).size > 1")
            await tab.capture(shot)
            assert tab.complaints == []

    asyncio.run(look())
    assert min(stream_pixels(shot)) > 300  # the bars of both


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is on the PATH")
def test_a_browser_goes_on_with_the_cookie(light_bundle: Path, url: str, tmp_path: Path) -> None:
    with PageRun(light_bundle, url, "--token", TOKEN) as run:
        run.labelled(TOKEN)

        async def look() -> None:
            async with open_tab("about:blank", tmp_path / "browser") as tab:
                await tab.load(f"{run.url}?token={TOKEN}", 800, 600)
                await tab.wait_for("document.querySelector('.track div') !== null")
                assert tab.complaints == []

        asyncio.run(look())
        metrics = run.get("metrics", Authorization=f"Bearer {TOKEN}")[1].decode()
        assert 'reason="token"} 0' in metrics  # no file and no picture was asked for without it
        run.stop()


@pytest.mark.slow
def test_a_lost_camera_is_shown_and_the_run_ends_well(run: PageRun, server: RtspServer) -> None:
    server.process.kill()
    server.process.wait()
    run.wait_until(lambda: run.state()["source_state"]["state"] == "lost")
    assert b'twostream_up{camera="rtsp://***@127.0.0.1' in run.get("metrics")[1]
    run.wait_until(lambda: run.get("readyz")[0] == 503)
    assert run.get("healthz")[0] == 200  # a restart would not bring the camera back
    assert "hunter2" not in run.stop()


@pytest.mark.slow
def test_a_token_is_asked_for(light_bundle: Path) -> None:
    with PageRun(light_bundle, "test://?live=1", "--token", TOKEN) as run:
        assert run.get("")[0] == 401
        assert run.get("state.json?token=" + TOKEN)[0] == 200
        bearer = f"Bearer {TOKEN}"
        assert run.get("metrics", Authorization=bearer)[0] == 200
        assert run.get("state.json", Cookie=f"twostream={TOKEN}")[0] == 401
        assert run.get("state.json", Cookie="twostream=\x01;;=")[0] == 400
        assert run.get("healthz")[0] == 200
        assert run.get("readyz")[0] in (200, 503)
        assert run.get("state.json?token=wrong")[0] == 401
        run.labelled(TOKEN)
        run.stop()


@pytest.mark.parametrize("text", ["", "http", "-1", "70000", "host:80", "1.2.3.4:", ":80:"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(OutputError, match="--web"):
        parse_listen("--web", text, "token")


def test_others_may_look_only_with_a_token(light_bundle: Path) -> None:
    with pytest.raises(OutputError, match="give --token"):
        parse_listen("--web", "0.0.0.0:8080", "")
    assert parse_listen("--web", "[::]:8080", TOKEN).host == "::"
    assert parse_listen("--web", "[::1]:8080", "").host == "::1"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = twostream("run", light_bundle, "test://", "--max-frames", 20, "--web", port)
        assert_refused(done, f"cannot listen on 127.0.0.1:{port}")
