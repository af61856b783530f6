"""Cameras on a Jetson, whose video elements are stand-ins: what they give and when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.colours import SIZE_HW, STATED, assert_colours, packed, patches, yuv_of
from tests.support.jetson import read_on_jetson
from tests.support.rtsp import RtspServer

pytestmark = pytest.mark.slow

RATE = 30


@pytest.mark.parametrize(
    ("codec", "lacks"),
    [("264", ""), ("265", ""), ("264", "enable-max-performance"), ("264", "disable-dpb")],
)
def test_an_rtsp_camera_is_not_held_back(codec: str, lacks: str) -> None:
    """By a decoder that holds back eight pictures, unless it is told not to."""
    with RtspServer(rate=RATE, codec=codec) as server:
        (reading,) = read_on_jetson(server.url, frames=40, environment={"STAND_IN_LACKS": lacks})
    assert reading.fault is None
    assert reading.errors == ""
    assert len(reading.frames) == 40
    assert ("enable-max-performance" in reading.log) == (lacks != "enable-max-performance")
    if lacks == "disable-dpb":  # the stand-in does hold them back
        assert reading.held >= 8
    else:
        assert reading.held <= 2


def test_a_user_may_set_the_decoder() -> None:
    """`--pipeline` is used as it is."""
    with RtspServer(rate=RATE) as server:
        elements = f"rtspsrc protocols=tcp location={server.url} ! rtph264depay ! h264parse"
        default, chosen, set_up = read_on_jetson(
            f"pipeline:{elements} ! nvv4l2decoder",
            f"pipeline:{elements} ! decodebin",  # which may as well have read a file
            f"pipeline:{elements} ! nvv4l2decoder disable-dpb=true",
            frames=40,
        )
    assert (default.fault, chosen.fault, set_up.fault) == (None, None, None)
    assert default.held >= 8
    assert chosen.held >= 8
    assert set_up.held <= 2


@pytest.mark.parametrize("form", ["I420", "Y42B", "Y444", "GRAY8"])
def test_a_usb_camera_that_sends_jpeg(form: str) -> None:
    (reading,) = read_on_jetson("usb", environment={"STAND_IN_CAMERA": form})
    assert reading.fault is None
    assert reading.errors == ""
    assert reading.last.full_range
    assert_bars(reading.last.y)


def test_other_cameras_that_send_jpeg() -> None:
    elements = "videotestsrc is-live=true ! video/x-raw,width=640,height=480 ! jpegenc"
    with RtspServer(size_hw=(480, 640), codec="jpeg") as server:
        own, network = read_on_jetson(f"pipeline:{elements} ! decodebin", server.url)
    for reading in (own, network):
        assert reading.fault is None
        assert reading.last.full_range
    assert_bars(own.last.y)


def assert_bars(luma: np.ndarray) -> None:
    """White is left and blue right, in the upper half of the pattern, 640 px wide."""
    assert luma.shape == (480, 640)
    assert luma[100, 20] > 175
    assert luma[100, 620] < 70


def test_a_ribbon_camera() -> None:
    (reading,) = read_on_jetson("csi://0?width=640&height=480")
    assert reading.fault is None
    assert_bars(reading.last.y)


def test_colours_survive_the_converter(tmp_path: Path) -> None:
    """Which takes matrix and range out of the caps."""
    rgb = patches()
    addresses = []
    for matrix, full_range in STATED:
        raw = tmp_path / f"{matrix}{full_range}.raw"
        raw.write_bytes(packed(yuv_of(rgb, matrix, full_range), "NV12"))
        height, width = SIZE_HW
        caps = (
            f"video/x-raw,format=NV12,colorimetry={STATED[matrix, full_range]},"
            f"width={width},height={height},framerate=25/1"
        )
        addresses.append(f'pipeline:multifilesrc location={raw} num-buffers=3 caps="{caps}"')
    readings = read_on_jetson(*addresses)
    for (matrix, full_range), reading in zip(STATED, readings, strict=True):
        assert reading.fault is None
        assert (reading.last.matrix, reading.last.full_range) == (matrix, full_range)
        assert_colours(reading.last, rgb)


@pytest.mark.parametrize(("matrix", "full_range"), STATED)
def test_colours_of_an_rtsp_camera(matrix: str, full_range: bool) -> None:
    with RtspServer(colorimetry=STATED[matrix, full_range], size_hw=(240, 320)) as server:
        (reading,) = read_on_jetson(server.url)
    assert reading.fault is None
    assert (reading.last.matrix, reading.last.full_range) == (matrix, full_range)


@pytest.mark.parametrize("codec", ["264", "265"])
def test_damaged_pictures_are_left_out_and_counted(codec: str) -> None:
    """Of twenty pictures after a key frame the sixth is lost, so the next fourteen are damaged."""
    with RtspServer(rate=RATE, codec=codec, key_frames=20, lost=5) as server:
        (reading,) = read_on_jetson(server.url, frames=25)
    assert reading.fault is None
    times = np.array([frame["time_s"] for frame in reading.frames])
    runs = np.split(times, np.flatnonzero(np.diff(times) * RATE > 10) + 1)
    for run in runs:  # the five pictures before the loss
        assert (run[-1] - run[0]) * RATE < 4.5
    losses = round((times[-1] - times[0]) * RATE / 20)
    assert losses >= 4
    # counted a moment before or after the frame, and more where this machine lost some, too
    counted = reading.frames[-1]["damaged"] - reading.frames[0]["damaged"]
    assert 14 * (losses - 1) <= counted <= 19 * (losses + 1)


def test_a_board_whose_video_hardware_is_hidden() -> None:
    """As in a container without it: the elements are installed, and fail. So all is done in
    software."""
    nv12 = "pipeline:videotestsrc is-live=true ! video/x-raw,format=NV12,width=640,height=480"
    with RtspServer() as server:
        own, network = read_on_jetson(nv12, server.url, environment={"STAND_IN_DEVICE": "none"})
    assert (own.fault, network.fault) == (None, None)
    assert_bars(own.last.y)
