"""The motion vectors of files: size, sign and time, whatever the codec and the kind of picture."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from edge.errors import SourceError
from edge.video.clip import open_clip
from edge.video.coded_picture import CODECS, CodedPicture, coding_order
from edge.video.frames import Frame
from edge.video.orientation import Orientation
from edge.video.vector_reader import AV_MOTION_VECTOR, velocities_of
from tests.support.av_clips import write_video
from tests.support.moving import DRIFT, RATE, write_drift
from tests.support.pictures import fill

FILES: dict[str, tuple[str, str, int, dict[str, str]]] = {
    "mpeg4": (".avi", "mpeg4", 0, {}),
    "mpeg4 with B pictures": (".avi", "mpeg4", 2, {}),
    "mpeg4 with B pictures in MP4": (".mp4", "mpeg4", 2, {}),
    "mpeg1": (".mpg", "mpeg1video", 0, {}),
    "mpeg1 with B pictures": (".mpg", "mpeg1video", 2, {}),
    "mpeg2": (".mpg", "mpeg2video", 0, {}),
    "mpeg2 with B pictures": (".ts", "mpeg2video", 2, {}),
    "h264 of a camera": (".mp4", "libx264", 0, {"tune": "zerolatency"}),
    "h264 with B pictures": (".mp4", "libx264", 2, {"b-pyramid": "none"}),
    "h264 with B pictures that others refer to": (".ts", "libx264", 3, {"b-pyramid": "normal"}),
    "h264 without a container": (".h264", "libx264", 2, {}),
}


def read(path: Path, **options: Any) -> list[Frame]:
    with open_clip(path, quiet=True, vectors=True, **options) as clip:
        return list(clip)


def typical_px(frame: Frame) -> np.ndarray:
    """The median of its vectors, px per frame of 25 a second."""
    assert frame.vectors is not None
    return np.median(frame.vectors.velocities, axis=0) / RATE


def kinds(path: Path) -> Counter[str]:
    with av.open(str(path)) as container:
        return Counter("?IPB"[int(picture.pict_type)] for picture in container.decode(video=0))


@pytest.mark.parametrize("name", FILES)
def test_a_drift_is_measured(name: str, tmp_path: Path) -> None:
    ending, codec, b_frames, options = FILES[name]
    path = write_drift(tmp_path / f"clip{ending}", codec, b_frames=b_frames, options=options)
    assert ("B" in kinds(path)) == (b_frames > 0)
    frames = read(path)
    assert [frame.index for frame in frames] == list(range(26))
    assert frames[0].vectors is not None
    assert len(frames[0].vectors.boxes) == 0
    for frame in frames[1:]:
        assert np.abs(typical_px(frame) - DRIFT).max() <= 0.5, frame.index
        assert frame.vectors is not None
        # what comes in at the right and the bottom has no vector, or a wrong one
        near = np.abs(frame.vectors.velocities / RATE - DRIFT).max(axis=1) <= 0.75
        assert near.mean() > 0.6, frame.index
        assert frame.vectors.repeated or frame.vectors.coverage > 0.75


@pytest.mark.parametrize("drift", [(-3, 2), (0, 3), (-4, 0), (0, 0)])
def test_the_sign_of_each_part(drift: tuple[int, int], tmp_path: Path) -> None:
    path = write_drift(tmp_path / "clip.mp4", b_frames=2, frames=10, drift=drift)
    assert [tuple(np.rint(typical_px(frame))) for frame in read(path)[1:]] == [drift] * 9


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_the_same_pictures_come_as_without_vectors(codec: str, tmp_path: Path) -> None:
    path = write_drift(tmp_path / "clip.mkv", codec, b_frames=2)
    with open_clip(path) as clip:
        plain = list(clip)
    for one, other in zip(plain, read(path), strict=True):
        assert one.vectors is None
        assert (one.time_s, one.index) == (other.time_s, other.index)
        np.testing.assert_array_equal(one.y, other.y)


@pytest.mark.parametrize(("codec", "ending"), [("libx264", ".mp4"), ("mpeg4", ".avi")])
def test_an_intra_picture_repeats_the_last_vectors(codec: str, ending: str, tmp_path: Path) -> None:
    options = {"sc_threshold": "0"}
    path = write_drift(tmp_path / f"clip{ending}", codec, gop=5, frames=11, options=options)
    frames = read(path)
    repeated = [frame.index for frame in frames if frame.vectors and frame.vectors.repeated]
    assert repeated == [0, 5, 10]
    for index in repeated[1:]:
        now, before = frames[index].vectors, frames[index - 1].vectors
        assert now is not None
        assert before is not None
        assert now.coverage == 0
        np.testing.assert_array_equal(now.velocities, before.velocities)


@pytest.mark.parametrize("b_frames", [0, 2])
def test_frames_that_are_further_apart_have_the_same_velocity(
    b_frames: int, tmp_path: Path
) -> None:
    times = [0, 1, 2, 4, 5, 8, 9, 11, 12]
    frames = read(write_drift(tmp_path / "clip.mp4", b_frames=b_frames, times=times))
    assert [round(frame.time_s * RATE) for frame in frames] == times
    for frame in frames[1:]:
        assert np.abs(typical_px(frame) - DRIFT).max() <= 0.5, frame.index


def test_vectors_turn_with_the_picture(tmp_path: Path) -> None:
    path = write_drift(tmp_path / "clip.mp4", frames=4)
    u, v = DRIFT
    turned = {
        Orientation(1): (-v, u),
        Orientation(2): (-u, -v),
        Orientation(3): (v, -u),
        Orientation(0, True): (-u, v),
        Orientation(1, True): (-v, -u),
    }
    for orientation, expected in turned.items():
        frame = read(path, orientation=orientation)[-1]
        assert tuple(np.rint(typical_px(frame))) == expected
        assert frame.vectors is not None
        left, top, right, bottom = frame.vectors.boxes.T
        assert (right > left).all()
        assert (bottom > top).all()
        height, width = frame.size_hw
        assert (left.min(), top.min(), right.max(), bottom.max()) == (0, 0, width, height)


@pytest.mark.parametrize("codec", ["libx265", "libvpx", "ffv1", "mjpeg"])
def test_a_codec_without_vectors_is_refused(codec: str, tmp_path: Path) -> None:
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_video(tmp_path / "clip.mkv", codec=codec, pixels=pixels)
    with pytest.raises(SourceError) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path}: its codec, ")
    assert "gives no motion vectors" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_pictures_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "pictures", "1.png", "2.png")
    with pytest.raises(SourceError, match="pictures have no motion vectors"):
        read(tmp_path / "pictures")


def test_a_damaged_file_gives_what_it_has(tmp_path: Path) -> None:
    path = write_drift(tmp_path / "clip.ts", b_frames=2, frames=40)
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 3, len(content) // 2, 188 * 7):
        content[at + 20 : at + 60] = bytes(40)
    path.write_bytes(content)
    frames = read(path)
    assert len(frames) > 20
    assert all(b.time_s > a.time_s for a, b in pairwise(frames))
    assert all(f.vectors and np.isfinite(f.vectors.velocities).all() for f in frames)


@pytest.mark.parametrize("ending", [".mp4", ".h264"])
def test_references_are_told_from_the_packets(ending: str, tmp_path: Path) -> None:
    """Of B pictures without a pyramid none is one, and every other picture is."""
    path = write_drift(tmp_path / f"clip{ending}", b_frames=2, options={"b-pyramid": "none"})
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        orders = [coding_order(p, stream.codec_context, k) for k, p in enumerate(packets)]
    assert [order.place for order in orders] == list(range(26))
    assert sum(not order.is_reference for order in orders) == kinds(path)["B"] > 0


def test_every_codec_is_tried_here() -> None:
    assert {codec.replace("libx264", "h264") for _, codec, _, _ in FILES.values()} == set(CODECS)


def test_coverage_counts_each_block_once() -> None:
    block, beside, outside, gone = (8, 8, 16, 16), (20, 4, 8, 8), (0, 32, 16, 16), (48, 48, 16, 16)
    raw = np.zeros(5, AV_MOTION_VECTOR)
    for row, (x, y, w, h) in zip(raw, (block, block, beside, outside, gone), strict=True):
        for name, value in {"source": -1, "dst_x": x, "dst_y": y, "w": w, "h": h}.items():
            row[name] = value
    raw["motion_scale"], raw["motion_x"], raw["motion_y"] = 4, -8, 2
    size = SimpleNamespace(width=32, height=32)
    earlier = CodedPicture(size, 1.0, 0, True, None)
    found = velocities_of(CodedPicture(size, 1.5, 1, True, raw), earlier, None)
    assert found is not None
    assert found.coverage == pytest.approx((256 + 64 + 64) / 1024)
    assert found.velocities.tolist() == [[4, -1]] * 5  # 2 px back in half a second
    assert found.boxes[2].tolist() == [16, 0, 24, 8]
    assert velocities_of(CodedPicture(size, 1.5, 1, True, raw[:0]), earlier, None) is None
    unknown = velocities_of(CodedPicture(size, 1.5, 1, True, raw), None, earlier)
    assert unknown is not None
    assert len(unknown.boxes) == unknown.coverage == 0
