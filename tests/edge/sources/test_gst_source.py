"""Cameras, network streams and test patterns: what they give and count, and what faults say."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import numpy as np
import psutil
import pytest

from edge.errors import SourceError
from edge.sources.source import Source, open_source
from edge.video.gstreamer import load_gstreamer
from tests.support.rtsp import RtspServer
from tests.support.waiting import BOUND_S, wait_until


def refusal(uri: str, **options: float) -> str:
    """The one line that a bad source gives."""
    with pytest.raises(SourceError) as caught, open_source(uri, **options) as source:
        list(source)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.slow
def test_reading_a_long_source_does_not_grow(tmp_path: Path) -> None:
    def resident_kib() -> int:
        return int(psutil.Process().memory_info().rss) // 1024

    with open_source("test://?frames=3000&width=640&height=480") as source:
        for frame in source:
            if frame.index == 500:
                before_kib = resident_kib()
    assert frame.index == 2999
    # 2500 frames of 450 KiB went through
    assert resident_kib() - before_kib < 8 * 1024


def test_csi_needs_a_jetson() -> None:
    if load_gstreamer(SourceError).Gst.ElementFactory.find("nvarguscamerasrc"):
        pytest.skip("this is a Jetson")
    said = "csi://0: nvarguscamerasrc is not installed; CSI cameras need a Jetson with"
    assert said in refusal("csi://0")


@pytest.mark.parametrize("live", [0, 1])
def test_a_source_that_is_turned(live: int) -> None:
    """The colour bars of the pattern, which are vertical, lie."""
    options = f"live={live}&frames=3&width=320&height=240"
    with open_source(f"test://?{options}") as source:
        upright = next(source)
    with open_source(f"test://?{options}&rotate=90&flip=vertical") as source:
        assert source.size_hw == (320, 240)
        turned = next(source)
    pairs = ((turned.y, upright.y), (turned.u, upright.u), (turned.v, upright.v))
    for plane, before in pairs:
        np.testing.assert_array_equal(plane, np.rot90(before, -1)[::-1])


def test_unknown_pattern() -> None:
    assert "there is no pattern 'nothing'" in refusal("test://?pattern=nothing")


# Live


def test_leaving_early_ends_the_iteration() -> None:
    with open_source("test://") as source:
        next(source)
    assert next(source, None) is None


@pytest.mark.slow
def test_live_drops_are_counted_exactly() -> None:
    given_out = []
    with open_source("test://?live=1&frames=60&rate=60") as source:
        assert source.live
        for frame in source:
            given_out.append(frame)
            newer = min(frame.index + 6, 60)  # a slow model
            wait_until(lambda newer=newer: source.received >= newer)
    assert source.received == 60
    assert len(given_out) > 1
    assert source.dropped == 60 - len(given_out)
    assert given_out[-1].index == 59  # the newest wins
    gaps = np.diff([frame.index for frame in given_out])
    assert gaps[:-1].min(initial=5) >= 5
    steps_s = np.diff([frame.time_s for frame in given_out])
    np.testing.assert_allclose(steps_s, gaps / 60, atol=1e-6)


def assert_the_newest_is_given(source: Source) -> int:
    """Its number, after some others were not asked for."""
    some = source.received + 5
    wait_until(lambda: source.received >= some)
    received = source.received
    index = next(source).index
    assert index >= received - 1
    return index


def test_a_live_source_does_not_hold_an_old_first_frame() -> None:
    with open_source("test://?live=1&rate=50") as source:  # and an engine is being loaded
        assert_the_newest_is_given(source)


@pytest.mark.slow
def test_rtsp_stays_fresh_with_a_slow_model() -> None:
    with RtspServer(rate=30) as server, open_source(server.url) as source:
        assert source.size_hw == (240, 320)
        indices = [assert_the_newest_is_given(source) for _ in range(12)]
    assert np.diff(indices).min() >= 5
    assert source.received - source.dropped - len(indices) in (0, 1)


@pytest.mark.slow
def test_rtsp_password_is_not_shown() -> None:
    with RtspServer(user="bob", password="s3same") as server:
        right = server.url.replace("//", "//bob:s3same@")
        with open_source(right) as source:
            assert next(source).size_hw == (240, 320)
        wrong = refusal(server.url.replace("//", "//bob:s3cret@"))
    assert "Unauthorized" in wrong
    assert "s3cret" not in wrong
    gone = refusal(right)
    assert "s3same" not in gone


def test_rtsp_server_killed() -> None:
    with RtspServer() as server, open_source(server.url, timeout_s=BOUND_S) as source:
        next(source)
        server.process.kill()
        reasons = []
        try:
            for _ in source:
                pass
        except SourceError as fault:
            reasons = [str(fault)]
    assert any(server.url in reason for reason in reasons or source.warnings)
    assert "no frame for" not in "".join(reasons)  # it is heard of, not waited for in vain


@pytest.mark.slow
def test_rtsp_server_stalled() -> None:
    with RtspServer() as server, open_source(server.url, timeout_s=1) as source:
        next(source)
        server.process.send_signal(signal.SIGSTOP)
        with pytest.raises(SourceError, match="no frame for 1 s"):
            for _ in source:
                pass


@pytest.mark.slow
def test_rtsp_host_that_never_answers() -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(1)
        uri = f"rtsp://bob:hunter2@127.0.0.1:{mute.getsockname()[1]}/cam"
        message = refusal(uri, timeout_s=1)
    assert "no frame for 1 s" in message
    assert "hunter2" not in message
