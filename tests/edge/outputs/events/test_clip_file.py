"""Clips of compressed pictures: times of decoding, and what a player sees."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import OutputError
from edge.outputs.events.clip_file import decoding_times, write_clip
from edge.sources.gst_source import open_camera
from edge.video.packets import PacketRing
from tests.support.rtsp import RtspServer
from tests.support.waiting import BOUND_S


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=60, unique=True))
def test_pictures_are_decoded_in_order_and_before_they_are_shown(pts_ns: list[int]) -> None:
    times = decoding_times(pts_ns)
    decoded = [early for _, early in times]
    assert decoded == sorted(decoded)
    assert decoded[0] == 0
    assert all(shown >= early for shown, early in times)
    shown = [late for late, _ in times]
    assert np.diff(shown).tolist() == np.diff(pts_ns).tolist()  # as far apart as before


def test_pictures_in_order_are_shown_when_they_are_decoded() -> None:
    assert decoding_times([70, 110, 150]) == [(0, 0), (40, 40), (80, 80)]


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["264", "265"])
def test_a_camera_s_own_stream_is_kept_as_it_is(codec: str, tmp_path: Path) -> None:
    """The decoded clip has the very pictures that the camera gave, bit for bit."""
    ring = PacketRing()
    with (
        RtspServer(codec=codec) as server,
        open_camera(server.url, timeout_s=BOUND_S, packets=ring) as camera,
    ):
        frames = [frame for _, frame in zip(range(40), camera, strict=False)]
        planes = [frame.y.copy() for frame in frames]
    packets = ring.between(frames[15].arrived_s, frames[-1].arrived_s, ring.stream)
    assert packets[0].key
    assert packets[0].caps.startswith(f"video/x-h{codec}")
    seconds = write_clip(tmp_path / "clip.mp4", packets)
    with av.open(str(tmp_path / "clip.mp4")) as video:
        stream = video.streams.video[0]
        assert stream.codec_context.name == {"264": "h264", "265": "hevc"}[codec]
        shown = [frame.to_ndarray()[:240] for frame in video.decode(video=0)]
        assert video.format.name.startswith("mov")
    assert len(shown) == len(packets)
    times_s = [packet.pts_ns / 1e9 for packet in packets]
    apart_s = (max(times_s) - min(times_s)) / (len(packets) - 1)
    assert seconds == pytest.approx(apart_s * len(packets), abs=1e-3)
    given_frames = {plane.tobytes() for plane in planes}
    same = sum(np.ascontiguousarray(picture).tobytes() in given_frames for picture in shown)
    assert same >= 20


def test_another_codec_is_not_kept() -> None:
    ring = PacketRing()
    with (
        RtspServer(codec="jpeg") as server,
        open_camera(server.url, timeout_s=BOUND_S, packets=ring) as camera,
    ):
        next(camera)
    assert ring.newest_s is None


def test_a_clip_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    ring = PacketRing()
    with RtspServer() as server, open_camera(server.url, timeout_s=BOUND_S, packets=ring) as camera:
        next(camera)
    packets = ring.between(0.0, float("inf"), ring.stream)
    with pytest.raises(OutputError, match=r"gone/clip\.mp4: "):
        write_clip(tmp_path / "gone" / "clip.mp4", packets)
