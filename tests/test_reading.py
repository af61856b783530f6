"""Video of every kind is read as the picture that it shows, at the time when it shows it.

Training and runs share one reader, so the truth here is not the other reader but the picture that
was encoded: made by a formula, written by the ffmpeg command in one kind after another.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.motion.spec import PRESETS
from edge.sources.source import open_source
from edge.video.frames import Frame, Geometry, Normalisation, resize_to_model, rgb_tensor
from edge.video.video_file import VideoFile
from tests.support.clips import write_clip
from train.data.cache import CachedClip, ClipCache
from train.data.clips import Clip

pytestmark = pytest.mark.slow

SIZE_HW = (120, 160)
FRAMES = 30
WHOLE = Geometry(aspect=(4, 3), size_hw=SIZE_HW, interpolation="area")
AS_LEVELS = Normalisation(mean=(0.0,) * 3, std=(1 / 255,) * 3)
BT709 = ("-colorspace", "bt709")


def truth(index: int) -> NDArray[np.uint8]:
    """(H, W, 3) RGB: colours that change slowly over the picture, and a bar that moves."""
    height, width = SIZE_HW
    y, x = np.mgrid[:height, :width]
    red = 128 + 90 * np.sin(x / 17 + 1) * np.cos(y / 23)
    green = 128 + 90 * np.cos(x / 29) * np.sin(y / 19 + 2)
    blue = 128 + 90 * np.sin((x + y) / 31)
    picture = np.stack([red, green, blue], axis=2)
    picture[:, 4 * index : 4 * index + 8] = (230, 200, 40)
    return picture.round().astype(np.uint8)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The true pictures at 25 a second, without loss."""
    path = tmp_path_factory.mktemp("truth") / "truth.mkv"
    height, width = SIZE_HW
    raw = b"".join(truth(index).tobytes() for index in range(FRAMES))
    layout = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "25"]
    command = ["ffmpeg", "-v", "error", *layout, "-i", "-", "-c:v", "ffv1", str(path)]
    subprocess.run(command, input=raw, check=True)
    return path


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


def encode(source: Path, path: Path, pixels: str, codec: str, matrix: str, scale: str) -> Path:
    """matrix, scale: options of the scale filter and of the stream."""
    codecs = {
        "h264": ("-c:v", "libx264", "-qp", "0"),
        "rgb264": ("-c:v", "libx264rgb", "-qp", "0"),
        "hevc": ("-c:v", "libx265", "-x265-params", "lossless=1:log-level=none"),
        "mjpeg": ("-c:v", "mjpeg", "-q:v", "1"),
        "mpeg4": ("-c:v", "mpeg4", "-q:v", "1"),
        "vp9": ("-c:v", "libvpx-vp9", "-lossless", "1"),
    }
    options = codecs.get(codec, ("-c:v", codec))
    ffmpeg(
        *("-i", source, "-vf", f"scale={scale},format={pixels}" if scale else f"format={pixels}"),
        *options,
        *(("-colorspace", matrix) if matrix else ()),
        *(("-color_range", "pc") if "out_range=pc" in scale else ()),
        path,
    )
    return path


def colours(frame: Frame) -> NDArray[np.float32]:
    """What a network sees, as levels (H, W, 3) at half the size, where chroma is known."""
    planes = rgb_tensor(resize_to_model(frame, WHOLE), AS_LEVELS)
    return halved(planes.transpose(1, 2, 0))


def halved(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width, channels = picture.shape
    return picture.reshape(height // 2, 2, width // 2, 2, channels).mean(axis=(1, 3))


# name, pixel format, codec, matrix that the stream states, options of the conversion
TV601 = "out_color_matrix=bt601:out_range=tv"
PC601 = "out_color_matrix=bt601:out_range=pc"
TV709 = "out_color_matrix=bt709:out_range=tv"
PC709 = "out_color_matrix=bt709:out_range=pc"
KINDS = [
    ("plain.mp4", "yuv420p", "h264", "", TV601),
    ("plain.avi", "yuv420p", "mpeg4", "", TV601),
    ("plain.webm", "yuv420p", "vp9", "", TV601),
    ("709.mp4", "yuv420p", "h264", "bt709", TV709),
    ("full-709.mp4", "yuv420p", "h264", "bt709", PC709),
    ("full-709.mkv", "yuv420p", "h264", "bt709", PC709),
    ("full-709.mov", "yuv420p", "h264", "bt709", PC709),
    ("full.mkv", "yuvj420p", "h264", "", PC601),
    ("full.ts", "yuvj420p", "h264", "", PC601),
    ("full-422.ts", "yuvj422p", "h264", "", PC601),
    ("full-444.mp4", "yuvj444p", "h264", "", PC601),
    ("jpeg.avi", "yuvj422p", "mjpeg", "", PC601),
    ("jpeg-444.mov", "yuvj444p", "mjpeg", "", PC601),
    ("422.mkv", "yuv422p", "h264", "", TV601),
    ("10bit.mkv", "yuv420p10le", "hevc", "bt709", TV709),
    ("10bit-444.mkv", "yuv444p10le", "ffv1", "bt709", TV709),
    ("2020.mkv", "yuv420p10le", "hevc", "bt2020nc", "out_color_matrix=bt2020:out_range=tv"),
    ("240m.mkv", "yuv420p", "ffv1", "smpte240m", "out_color_matrix=smpte240m:out_range=tv"),
    ("rgb.mp4", "rgb24", "rgb264", "", ""),
    ("rgb.mov", "bgra", "qtrle", "", ""),
    ("rgb-png.mkv", "rgb24", "png", "", ""),
    ("rgb-deep.mkv", "gbrp10le", "ffv1", "", ""),
]


@pytest.mark.parametrize(
    ("name", "pixels", "codec", "matrix", "scale"), KINDS, ids=[kind[0] for kind in KINDS]
)
def test_colours(
    source: Path, tmp_path: Path, name: str, pixels: str, codec: str, matrix: str, scale: str
) -> None:
    path = encode(source, tmp_path / name, pixels, codec, matrix, scale)
    with VideoFile(path) as video:
        frames = list(video)
    assert len(frames) == FRAMES
    assert video.warnings == []
    for index in (0, FRAMES // 2, FRAMES - 1):
        shown, wanted = colours(frames[index]), halved(truth(index).astype(np.float32))
        assert np.abs(shown - wanted).mean() < 1.5
        assert np.abs((shown - wanted).mean(axis=(0, 1))).max() < 1.5  # no tint


@pytest.mark.parametrize(
    ("name", "pixels", "codec"),
    [
        ("gray.mkv", "gray", "ffv1"),
        ("gray.mp4", "gray", "h264"),
        ("gray-hevc.mkv", "gray", "hevc"),
        ("gray10.mkv", "gray10le", "ffv1"),
        ("gray16.mkv", "gray16le", "ffv1"),
        ("gray-png.mov", "ya8", "png"),
    ],
)
def test_grey_stays_grey(source: Path, tmp_path: Path, name: str, pixels: str, codec: str) -> None:
    """And keeps its contrast, as a thermal camera's pictures must."""
    path = encode(source, tmp_path / name, pixels, codec, "", "")
    with VideoFile(path) as video:
        frames = list(video)
    shown = colours(frames[3])
    assert np.abs(np.diff(shown, axis=2)).max() < 0.01
    luma = truth(3) @ np.array([0.299, 0.587, 0.114])
    assert np.abs(shown[..., 0] - halved(luma[..., None])[..., 0]).mean() < 1.5


def marked(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """The MP4 with this display matrix (ISO 14496-12, 8.3.2), which mp4mux cannot write."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    fixed = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    content[at : at + 36] = struct.pack(">9i", *fixed)
    path.write_bytes(content)
    return path


def shown_by(a: int, b: int, c: int, d: int, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each pixel (x, y) goes to (a x + c y, b x + d y), and the whole to where it is seen."""
    height, width = picture.shape
    y, x = np.mgrid[:height, :width]
    to_x, to_y = a * x + c * y, b * x + d * y
    to_x, to_y = to_x - to_x.min(), to_y - to_y.min()
    out = np.zeros((to_y.max() + 1, to_x.max() + 1), picture.dtype)
    out[to_y, to_x] = picture
    return out


@pytest.mark.parametrize(
    "matrix",
    [
        *((1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)),
        *((-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)),
    ],
)
def test_every_orientation(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=3, codec="h264", pattern="smpte")
    with VideoFile(path) as video:
        stored = list(video)[2]
    with VideoFile(marked(path, *matrix)) as video:
        turned = list(video)[2]
    for plane, wanted in ((turned.y, stored.y), (turned.u, stored.u), (turned.v, stored.v)):
        np.testing.assert_array_equal(plane, shown_by(*matrix, wanted))
    assert video.size_hw == turned.size_hw


@pytest.mark.parametrize("name", ["half.mp4", "half.mkv", "half.avi", "half.ts"])
def test_pixels_that_are_not_square(source: Path, tmp_path: Path, name: str) -> None:
    """A DVR's half pictures show people in their shape."""
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    ffmpeg(
        *("-i", source, "-vf", "scale=80:120,setdar=4/3,format=yuv420p"),
        *("-c:v", codec, "-q:v", "1", tmp_path / name),
    )
    with VideoFile(tmp_path / name) as video:
        frame = list(video)[3]
    assert frame.size_hw == (120, 80)
    assert frame.pixel_aspect == (2, 1)
    whole = resize_to_model(frame, WHOLE)  # nothing is cut off
    wanted = halved(truth(3).astype(np.float32))
    assert np.abs(halved(rgb_tensor(whole, AS_LEVELS).transpose(1, 2, 0)) - wanted).mean() < 8


def times_of(path: Path) -> list[float]:
    with VideoFile(path) as video:
        return [round(frame.time_s, 3) for frame in video]


def test_two_recordings_joined(source: Path, tmp_path: Path) -> None:
    encode(source, tmp_path / "a.ts", "yuv420p", "h264", "", TV601)
    one = (tmp_path / "a.ts").read_bytes()
    (tmp_path / "joined.ts").write_bytes(one + one)
    times_s = times_of(tmp_path / "joined.ts")
    np.testing.assert_allclose(times_s, np.arange(2 * FRAMES) / 25, atol=2e-3)


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.avi", "mpeg4")])
def test_frames_left_out_are_time(source: Path, tmp_path: Path, name: str, codec: str) -> None:
    """As a variable rate, or in AVI as frames without content."""
    chosen = "select='not(between(n,10,19))',format=yuv420p"
    ffmpeg("-i", source, "-vf", chosen, "-vsync", "vfr", "-c:v", codec, tmp_path / name)
    wanted = [index / 25 for index in range(FRAMES) if not 10 <= index <= 19]
    np.testing.assert_allclose(times_of(tmp_path / name), wanted, atol=2e-3)


def test_a_packet_of_no_bytes_is_the_picture_before(source: Path, tmp_path: Path) -> None:
    """Theora writes one where nothing has changed: no damage, and its time passes."""
    path = tmp_path / "a.ogv"
    ffmpeg("-i", source, "-vf", "fps=5,fps=25", "-c:v", "libtheora", "-q:v", "9", path)
    with av.open(str(path)) as container:
        packets = [each for each in container.demux(video=0) if each.pts is not None]
    with VideoFile(path) as video:
        times_s = [frame.time_s for frame in video]
    assert any(not packet.size for packet in packets)
    shown_s = [0.04 * number for number, packet in enumerate(packets) if packet.size]
    assert times_s == pytest.approx(shown_s, abs=1e-3)
    assert (video.damaged, video.warnings) == (0, [])


def test_an_edit_list_is_no_damage(source: Path, tmp_path: Path) -> None:
    ffmpeg("-i", source, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "30", tmp_path / "a.mp4")
    ffmpeg("-ss", "0.4", "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "b.mp4")
    with VideoFile(tmp_path / "b.mp4") as video:
        frames = list(video)
    assert len(frames) == FRAMES - 10
    assert video.warnings == []


@pytest.mark.parametrize(("rate", "used"), [(25, 1), (50, 2), (60, 2), (120, 3)])
def test_a_stack_spans_the_same_time_at_every_rate(tmp_path: Path, rate: int, used: int) -> None:
    """Of a fast camera, training uses the frames that a run uses."""
    path = write_clip(tmp_path / "a.mkv", frames=rate, rate=f"{rate}/1", codec="h264")
    clip = Clip("a/a.mkv", path, "a", "a")
    cache = ClipCache(tmp_path / "cache", WHOLE, PRESETS["fast"].interval_s)
    (cached,) = cache.fill([clip], 1, 10)
    assert isinstance(cached, CachedClip)
    np.testing.assert_allclose(cached.times_s, np.arange(0, rate, used) / rate, atol=2e-3)


def test_a_run_reads_what_training_reads(source: Path, tmp_path: Path) -> None:
    path = encode(source, tmp_path / "full.mkv", "yuvj422p", "h264", "", PC601)
    with VideoFile(path) as video, open_source(str(path)) as run:
        for trained, seen in zip(video, run, strict=True):
            np.testing.assert_array_equal(trained.y, seen.y)
            np.testing.assert_array_equal(trained.u, seen.u)
            assert (trained.time_s, trained.matrix, trained.full_range) == (
                *(seen.time_s, seen.matrix, seen.full_range),
            )
