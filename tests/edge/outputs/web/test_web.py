"""The live page: what a real browser shows, and what is given to whom."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import OutputError
from edge.outputs.listen_address import parse_listen
from tests.support.command import TWOSTREAM, assert_refused, twostream
from tests.support.live_page import TOKEN
from tests.support.rtsp import RtspServer

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)


class Run:
    """`twostream run` on an RTSP camera with a page."""

    def __init__(self, bundle: Path, url: str, *more: str) -> None:
        words = [str(TWOSTREAM), "run", str(bundle), url, "--web", "0", *more]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"live page: (http://\S+)", line):
                self.url = found[1]
                return
        raise AssertionError("the run ended")

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        request = urllib.request.Request(self.url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def state(self) -> dict:
        """Of the first source."""
        found = json.loads(self.get("state.json")[1])
        return found["sources"][0] if found["sources"] else {"state": "starting"}

    def wait_for(self, what: str, wanted: object, bound_s: float = 20.0) -> dict:
        deadline_s = time.monotonic() + bound_s
        while (found := self.state())[what] != wanted:
            assert time.monotonic() < deadline_s, found
            time.sleep(0.1)
        return found

    def wait_with(self, token: str) -> None:
        """Until labels come, where a token is asked for."""
        deadline_s = time.monotonic() + 60
        while (
            b'"state":"running","label"'
            not in self.get("state.json", Authorization=f"Bearer {token}")[1]
        ):
            assert time.monotonic() < deadline_s
            time.sleep(0.1)

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        _, errors = self.process.communicate(timeout=20)
        assert time.monotonic() - started < 2
        assert self.process.returncode == 0, errors
        return errors


@pytest.fixture(scope="module")
def server() -> Iterator[RtspServer]:
    with RtspServer(rate=25, user="bob", password="hunter2") as running:
        yield running


@pytest.fixture(scope="module")
def url(server: RtspServer) -> str:
    return f"rtsp://bob:hunter2@127.0.0.1:{server.port}/cam"


@pytest.fixture(scope="module")
def run(demo_bundle: Path, url: str) -> Iterator[Run]:
    running = Run(demo_bundle, url)
    running.wait_for("state", "running")
    yield running
    if running.process.poll() is None:
        running.process.kill()


def test_the_state_says_what_is_seen(run: Run) -> None:
    found = run.state()
    assert found["source_state"]["state"] == "running"
    assert found["label"] == "unknown"
    for stream in ("spatial", "temporal"):
        scores = [score for _, score in found["streams"][stream]]
        assert len(scores) == 5
        assert scores == sorted(scores, reverse=True)
    time.sleep(1)
    later = run.state()
    assert 10 < later["counts"]["labelled"] - found["counts"]["labelled"] < 60
    assert 0 < later["latency_ms"] < 500


def test_pictures_come_one_after_another(run: Run) -> None:
    pictures = []
    with urllib.request.urlopen(run.url + "live.mjpg", timeout=10) as answer:
        assert answer.headers.get_content_type() == "multipart/x-mixed-replace"
        while len(pictures) < 3:
            line = answer.readline()
            if line.lower().startswith(b"content-length:"):
                answer.readline()
                data = answer.read(int(line.split(b":")[1]))
                pictures.append(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    assert all(picture is not None and picture.std() > 10 for picture in pictures)
    assert any((a != pictures[0]).any() for a in pictures[1:])


def test_metrics_are_prometheus_text(run: Run) -> None:
    status, text = run.get("metrics")
    assert status == 200
    rows = [line for line in text.decode().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"twostream_\w+\{[^}]*\} [0-9.e+-]+", row) for row in rows), rows
    values = {row.rpartition(" ")[0].split("{")[0]: float(row.rpartition(" ")[2]) for row in rows}
    assert values["twostream_up"] == 1
    assert values["twostream_labelled_total"] > 5
    assert 'stage="latency",quantile="0.95"' in text.decode()


def test_no_password_is_told_and_no_other_file_given(run: Run) -> None:
    for path in ("", "state.json", "metrics"):
        assert b"hunter2" not in run.get(path)[1]
    for path in ("../../etc/passwd", "page.html", "state.json/..", "%2e%2e/setup.cfg"):
        assert run.get(path)[0] == 404


def screenshot(url: str, shot: Path, size: str) -> list[str]:
    """What a browser shows there; gives what it complained of."""
    words = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    words += [f"--window-size={size}", "--virtual-time-budget=4000", "--timeout=8000"]
    words += [f"--screenshot={shot}", "--enable-logging=stderr", url]
    done = subprocess.run(words, check=True, capture_output=True, timeout=60, text=True)
    return [
        line for line in done.stderr.splitlines() if "CONSOLE" in line and "favicon" not in line
    ]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is on the PATH")
@pytest.mark.parametrize("size", ["1200,760", "390,1250"])
def test_a_browser_shows_it(run: Run, size: str, tmp_path: Path) -> None:
    shot = tmp_path / "page.png"
    assert screenshot(run.url, shot, size) == []
    picture = cv2.imread(str(shot))
    assert picture is not None
    blue, _, red = (picture[..., index].astype(int) for index in range(3))
    assert ((red - blue) > 120).sum() > 300  # the bars of the spatial stream
    assert ((blue - red) > 120).sum() > 300  # and of the temporal one


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is on the PATH")
def test_a_browser_goes_on_with_the_cookie(demo_bundle: Path, url: str, tmp_path: Path) -> None:
    run = Run(demo_bundle, url, "--token", TOKEN)
    run.wait_with(TOKEN)
    assert screenshot(f"{run.url}?token={TOKEN}", tmp_path / "page.png", "800,600") == []
    metrics = run.get("metrics", Authorization=f"Bearer {TOKEN}")[1].decode()
    assert 'reason="token"} 0' in metrics  # no file and no picture was asked for without it
    run.stop()


@pytest.mark.slow
def test_a_lost_camera_is_shown_and_the_run_ends_well(run: Run, server: RtspServer) -> None:
    server.process.kill()
    server.process.wait(10)
    deadline_s = time.monotonic() + 15
    while run.state()["source_state"]["state"] != "lost":
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    assert b'twostream_up{camera="rtsp://***@127.0.0.1' in run.get("metrics")[1]
    deadline_s = time.monotonic() + 15
    while run.get("healthz")[0] != 503:
        assert time.monotonic() < deadline_s
        time.sleep(0.2)
    errors = run.stop()
    assert "hunter2" not in errors


@pytest.mark.slow
def test_a_token_is_asked_for(demo_bundle: Path) -> None:
    with RtspServer(rate=25) as server:
        run = Run(demo_bundle, server.url, "--token", TOKEN)
        assert run.get("")[0] == 401
        assert run.get("state.json?token=" + TOKEN)[0] == 200
        bearer = f"Bearer {TOKEN}"
        assert run.get("metrics", Authorization=bearer)[0] == 200
        assert run.get("state.json", Cookie=f"twostream={TOKEN}")[0] == 401
        assert run.get("state.json", Cookie="twostream=\x01;;=")[0] == 400
        assert run.get("healthz")[0] in (200, 503)
        assert run.get("state.json?token=wrong")[0] == 401
        run.wait_with(TOKEN)
        run.stop()


@pytest.mark.parametrize("text", ["", "http", "-1", "70000", "host:80", "1.2.3.4:", ":80:"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(OutputError, match="--web"):
        parse_listen("--web", text, "token")


def test_others_may_look_only_with_a_token(demo_bundle: Path) -> None:
    with pytest.raises(OutputError, match="give --token"):
        parse_listen("--web", "0.0.0.0:8080", "")
    assert parse_listen("--web", "[::]:8080", TOKEN).host == "::"
    assert parse_listen("--web", "[::1]:8080", "").host == "::1"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = twostream("run", demo_bundle, "test://", "--max-frames", 20, "--web", port)
        assert_refused(done, f"127.0.0.1:{port} cannot be listened on")
