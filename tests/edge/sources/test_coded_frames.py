"""Network cameras with motion vectors, over a real RTSP server."""

from __future__ import annotations

from fractions import Fraction
from itertools import dropwhile, islice, pairwise

import numpy as np
import pytest

from edge.errors import SourceError
from edge.sources.pipeline import packet_description
from edge.sources.reconnect import ReconnectingSource, ReconnectPolicy
from edge.sources.source import open_source
from edge.sources.uri import Address
from tests.support.rtsp import RtspServer

pytestmark = pytest.mark.slow


def test_a_network_camera_gives_vectors() -> None:
    with RtspServer(rate=25) as server, open_source(server.url, vectors=True) as source:
        frames = list(islice(source, 20))
    assert source.size_hw == (240, 320)
    assert all(later.time_s > earlier.time_s for earlier, later in pairwise(frames))
    assert all(later.index > earlier.index for earlier, later in pairwise(frames))
    own = [f.vectors for f in frames if f.vectors is not None and not f.vectors.repeated]
    assert len(own) >= 10
    assert all(vectors.coverage > 0.5 for vectors in own)
    # the ball moves, and nothing else
    assert any(np.abs(vectors.velocities).max() > 20 for vectors in own)


def test_its_region_is_cut_and_its_mask_is_black() -> None:
    view = "region=0.5,0,0.5,1&mask=0.5,0,0.75,0,0.75,1,0.5,1"
    with RtspServer(rate=25) as server:
        with open_source(f"{server.url}?{view}", vectors=True) as source:
            frames = list(islice(source, 3))
        assert source.size_hw == (240, 160)
        for frame in frames:
            assert frame.size_hw == (240, 160)
            assert (frame.y[:, :80] == 16).all()
            assert frame.vectors is not None
            centres = frame.vectors.boxes[:, ::2].mean(axis=1)  # also beyond the region
            assert not ((centres >= 0) & (centres < 80)).any()
        with (
            pytest.raises(SourceError, match="region is 4 x 240 px"),
            open_source(f"{server.url}?region=0,0,0.01,1", vectors=True),
        ):
            pass


def test_the_pictures_are_those_of_a_run_without_vectors() -> None:
    """Decoded by FFmpeg in one case and by GStreamer in the other: the same test pattern."""
    levels = []
    for vectors in (False, True):
        with RtspServer(rate=25) as server, open_source(server.url, vectors=vectors) as source:
            frame = next(source)
        levels.append((frame.size_hw, frame.full_range, round(float(frame.y.mean()))))
    assert levels[0] == levels[1]


def test_a_camera_of_another_codec_is_refused_in_one_line() -> None:
    with (
        RtspServer(codec="265") as server,
        pytest.raises(SourceError) as refused,
        open_source(server.url, vectors=True) as source,
    ):
        next(source)
    assert "hevc, gives no motion vectors" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("uri", ["test://", "csi://0", "http://127.0.0.1:9/a"])
def test_other_cameras_are_refused_in_one_line(uri: str) -> None:
    with pytest.raises(SourceError, match="gives no motion vectors") as refused:
        open_source(uri, vectors=True)
    assert "\n" not in str(refused.value)


CODED = "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=160,height=120"


def test_a_pipeline_of_h264_gives_vectors() -> None:
    uri = f"pipeline:{CODED},framerate=25/1 ! x264enc tune=zerolatency key-int-max=10"
    with open_source(uri, vectors=True) as source:
        frames = list(islice(source, 12))
    assert (source.size_hw, source.frame_rate) == ((120, 160), 25.0)
    assert sum(f.vectors is not None and f.vectors.coverage > 0.8 for f in frames) >= 6


@pytest.mark.parametrize("elements", [CODED, f"{CODED} ! jpegenc"])
def test_a_pipeline_of_anything_else_is_refused_in_one_line(elements: str) -> None:
    with (
        pytest.raises(SourceError, match=r"H\.264, MPEG-4 or MPEG-2") as refused,
        open_source(f"pipeline:{elements}", vectors=True) as source,
    ):
        next(source)
    assert "\n" not in str(refused.value)


def test_a_usb_camera_is_asked_for_h264() -> None:
    """Its pipeline as text: there is no camera here."""
    address = Address("v4l2", "camera", "/dev/video0", width=640, height=480, rate=Fraction(30))
    text = packet_description(address)
    assert "v4l2src name=origin" in text
    assert "! video/x-h264,width=640,height=480,framerate=30/1 ! parsebin !" in text


def test_pictures_after_a_loss_are_left_out_until_the_next_key_frame() -> None:
    with (
        RtspServer(rate=25, key_frames=10, lost=4) as server,
        open_source(server.url, vectors=True) as source,
    ):
        frames = list(islice(source, 12))
    assert source.damaged > 0
    assert all(f.vectors is not None for f in frames)
    # each run of pictures between two key frames is 4 long
    gaps = [round((later.time_s - earlier.time_s) * 25) for earlier, later in pairwise(frames)]
    assert max(gaps) >= 5


def test_a_camera_that_comes_back_has_vectors_again() -> None:
    policy = ReconnectPolicy(first_s=0.05)
    with RtspServer(rate=25) as server:
        camera = ReconnectingSource(server.url, policy, lambda state: None, vectors=True)
        with camera:
            first = list(islice(camera, 5))
            server.process.kill()
            server.process.wait(10)
            server.start_again()
            later = list(islice(dropwhile(lambda f: not f.discontinuity, camera), 5))
    assert camera.connections == 2
    assert all(frame.vectors is not None for frame in (*first, *later))
