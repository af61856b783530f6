"""Cameras that send MJPEG over HTTP, from a real server."""

from __future__ import annotations

import itertools
import subprocess
import threading
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from edge.errors import SourceError
from edge.sources.multiplexer import CameraMultiplexer
from edge.sources.reconnect import ReconnectingSource, ReconnectPolicy, SourceState
from edge.sources.source import open_source
from tests.support.mjpeg import PASSWORD, USER, MjpegServer
from tests.support.waiting import BOUND_S, wait_until

RIGHT = f"{USER}:{quote(PASSWORD, safe='')}@"


def refusal(url: str) -> str:
    """The one line about an address that is no MJPEG camera."""
    with pytest.raises(SourceError) as caught, open_source(url, timeout_s=BOUND_S):
        pass
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "style",
    ["plain", "no-length", "lower-case", "extra", "bare-newlines", "blank-line-first", "jpg"],
)
def test_the_styles_of_cameras(style: str) -> None:
    with MjpegServer() as camera, open_source(camera.url(style)) as source:
        frames = list(itertools.islice(source, 5))
        assert source.live
        assert source.size_hw == (120, 160)
    assert frames[0].full_range
    levels = [int(frame.y[60, 80]) for frame in frames]
    assert all(level % 2 == 0 for level in levels)
    assert levels == sorted(set(levels))
    assert (np.diff([frame.time_s for frame in frames]) > 0).all()


def test_a_picture_of_which_a_part_was_lost_is_left_out_and_counted() -> None:
    """Its lower half would be grey, which looks like motion."""
    with MjpegServer() as camera, open_source(camera.url("some-cut")) as source:
        frames = list(itertools.islice(source, 5))
        assert source.damaged >= 4
    for frame in frames:
        level = int(frame.y[0, 0])
        assert level % 4 == 0  # of a picture with an even number
        assert (frame.y == level).all()


def test_what_was_left_out_of_a_camera_is_told_at_the_end() -> None:
    with MjpegServer() as camera, CameraMultiplexer() as cameras:
        view = cameras.add("yard", camera.url("some-cut"), ReconnectPolicy())
        wait_until(lambda: view.received >= 5)
        cameras.remove("yard")
    (warning,) = view.warnings
    assert warning == f"yard: damaged pictures, which were left out: {view.damaged}"
    assert view.damaged >= 4


def test_a_camera_that_never_writes_the_end_is_read() -> None:
    with MjpegServer() as camera, open_source(camera.url("no-end")) as source:
        levels = [int(frame.y[60, 80]) for frame in itertools.islice(source, 5)]
    assert levels == sorted(set(levels))


def test_the_query_is_the_cameras_and_the_rotation_ours() -> None:
    with MjpegServer() as camera:
        url = camera.url("plain?resolution=160x120&rotate=90&fps=50")
        with open_source(url) as source:
            assert next(source).size_hw == (160, 120)
        assert camera.asked == ["/plain?resolution=160x120&fps=50"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["basic", "digest"])
def test_user_and_password(method: str) -> None:
    with MjpegServer() as camera:
        with open_source(camera.url(method, RIGHT)) as source:
            assert next(source).size_hw == (120, 160)
        for credentials in ("", "bob:hunter2@", "bob@"):
            message = refusal(camera.url(method, credentials))
            assert "refuses this user and password (401 Unauthorized)" in message
            assert "hunter2" not in message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("html", "it sends a web page, not MJPEG; look up the address"),
        ("jpeg", "it sends a single picture (image/jpeg), not MJPEG"),
        ("mp4", "it sends video/mp4, not MJPEG (multipart/x-mixed-replace)"),
        ("untyped", "it sends something of no stated type, not MJPEG"),
        ("no-type", "each picture must follow its boundary and `Content-Type: image/jpeg`"),
        ("png", "each picture must follow its boundary and `Content-Type: image/jpeg`"),
        ("empty", "contains no valid streams"),
        ("403", "refuses this user and password (403 Forbidden)"),
        ("404", "there is nothing at this address (404 Not Found)"),
        ("503", "it answers 503 Service Unavailable"),
        ("moved", "it redirects to https://***@other.example/video (302 Found)"),
        ("307", "it redirects to another address (307 Temporary Redirect)"),
    ],
)
def test_what_is_not_mjpeg(path: str, reason: str) -> None:
    with MjpegServer() as camera:
        message = refusal(camera.url(path, "bob:s3cret@"))
        assert reason in message
        assert message.startswith(f"http://***@127.0.0.1:{camera.port}/{path}: ")
        assert "s3cret" not in message
        assert set(camera.asked) == {f"/{path}"}  # nothing else was asked for
    assert "hunter2" not in message


def test_nobody_answers() -> None:
    with MjpegServer() as camera:
        url = camera.url("plain", "bob:s3cret@")
    message = refusal(url)
    assert "check the address, the network" in message
    assert "s3cret" not in message


@pytest.mark.slow
def test_a_camera_that_stalls() -> None:
    with MjpegServer() as camera, open_source(camera.url()) as source:
        next(source)
        source.timeout_s = 0.5
        camera.hold.set()
        with pytest.raises(SourceError, match=r"no frame for 0\.5 s"):
            for _ in source:
                pass


@pytest.mark.slow
def test_a_camera_that_comes_back() -> None:
    states: list[SourceState] = []
    policy = ReconnectPolicy(first_s=0.1, longest_s=0.5)
    with MjpegServer() as server:
        camera = ReconnectingSource(server.url(), policy, states.append)
        indices: list[int] = []

        def read() -> None:
            with camera:
                indices.extend(frame.index for frame in camera)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        wait_until(lambda: camera.received > 3)
        server.stop()
        wait_until(lambda: any(state.state == "lost" for state in states))
        server.start()
        before = camera.received
        wait_until(lambda: camera.received > before + 3)
        camera.stop()
        reader.join(BOUND_S)
    assert [state.state for state in states if state.state == "running"] == ["running"] * 2
    assert indices == sorted(set(indices))


@pytest.mark.slow
def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    pem = tmp_path / "camera.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1 -keyout"
    subprocess.run([*command.split(), str(pem), "-out", str(tmp_path / "c.pem")], check=True,
                   capture_output=True)  # fmt: skip
    pem.write_bytes(pem.read_bytes() + (tmp_path / "c.pem").read_bytes())
    with MjpegServer(certificate=pem) as camera:
        message = refusal(camera.url("plain", "bob:s3cret@"))
    assert "certificate" in message
    assert "s3cret" not in message
