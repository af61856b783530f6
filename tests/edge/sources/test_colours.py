"""A camera's colours are what it saw, whatever its format, matrix and range."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from edge.sources.reconnect import ReconnectingSource, ReconnectPolicy
from edge.sources.source import open_source
from edge.video.frames import Frame
from tests.support.colours import SIZE_HW, STATED, assert_colours, halved, packed, patches, yuv_of


def first_frame(folder: Path, content: bytes, caps: str) -> Frame:
    """What a source gives for a raw picture with these caps."""
    raw = folder / "picture.raw"
    raw.write_bytes(content)
    height, width = SIZE_HW
    size = f"width={width},height={height},framerate=25/1"
    elements = f'multifilesrc location={raw} num-buffers=3 caps="video/x-raw,{caps},{size}"'
    with open_source(f"pipeline:{elements}") as source:
        assert source.warnings == []
        return next(source)


@pytest.mark.parametrize("form", ["I420", "NV12", "Y42B", "Y444", "I420_10LE"])
@pytest.mark.parametrize(("matrix", "full_range"), STATED)
def test_formats_matrices_and_ranges(
    tmp_path: Path, form: str, matrix: str, full_range: bool
) -> None:
    rgb = patches()
    yuv = yuv_of(rgb, matrix, full_range, 10 if form.endswith("10LE") else 8)
    caps = f"format={form},colorimetry={STATED[matrix, full_range]}"
    frame = first_frame(tmp_path, packed(yuv, form), caps)
    assert (frame.matrix, frame.full_range) == (matrix, full_range)
    assert_colours(frame, rgb)


@pytest.mark.parametrize("form", ["I420", "NV12", "I420_10LE"])
def test_a_range_without_a_matrix(tmp_path: Path, form: str) -> None:
    """Many network cameras state the range alone."""
    rgb = patches()
    yuv = yuv_of(rgb, "bt601", True, 10 if form.endswith("10LE") else 8)
    frame = first_frame(tmp_path, packed(yuv, form), f"format={form},colorimetry=1:0:0:0")
    assert (frame.matrix, frame.full_range) == ("bt601", True)
    assert_colours(frame, rgb)


@pytest.mark.parametrize(
    "stated", ["", ",colorimetry=1:0:0:0", ",colorimetry=0:0:0:0", ",colorimetry=1:4:0:0"]
)
@pytest.mark.parametrize("form", ["GRAY8", "GRAY16_LE", "GRAY16_BE"])
def test_a_grey_camera(tmp_path: Path, form: str, stated: str) -> None:
    grey = patches().mean(axis=2).round()
    if form == "GRAY8":
        content = grey.astype(np.uint8).tobytes()
    else:
        content = (grey * 257).astype("<u2" if form.endswith("LE") else ">u2").tobytes()
    frame = first_frame(tmp_path, content, f"format={form}{stated}")
    assert (frame.u == 128).all()
    assert (frame.v == 128).all()
    assert_colours(frame, np.repeat(grey[..., None], 3, axis=2))


def test_a_grey_camera_of_limited_range(tmp_path: Path) -> None:
    grey = patches().mean(axis=2).round()
    limited = np.round(16 + grey * 219 / 255).astype(np.uint8)
    frame = first_frame(tmp_path, limited.tobytes(), "format=GRAY8,colorimetry=2:4:0:0")
    assert_colours(frame, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("form", ["RGB", "BGR", "RGBx", "BGRx", "BGRA"])
def test_a_camera_in_rgb(tmp_path: Path, form: str) -> None:
    rgb = patches()
    order = ["RGBxA".index(letter.replace("A", "x")) for letter in form]
    content = np.dstack([rgb, np.full(SIZE_HW, 255)])[..., order].astype(np.uint8).tobytes()
    assert_colours(first_frame(tmp_path, content, f"format={form}"), rgb)


@pytest.mark.parametrize("subsampling", ["420", "422", "444", "440", "411", "grey"])
def test_a_jpeg_camera(tmp_path: Path, subsampling: str) -> None:
    rgb = patches()
    options = [cv2.IMWRITE_JPEG_QUALITY, 100]
    if subsampling == "grey":
        grey = rgb.mean(axis=2).round()
        rgb, picture = np.repeat(grey[..., None], 3, axis=2), grey
    else:
        picture = rgb[..., ::-1]
        factor = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{subsampling}")
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
    path = tmp_path / "picture.jpg"
    assert cv2.imwrite(str(path), picture.astype(np.uint8), options)
    caps = 'caps="image/jpeg,framerate=25/1"'
    with open_source(f"pipeline:multifilesrc location={path} num-buffers=3 {caps} ! jpegdec") as s:
        frame = next(s)
    assert frame.full_range
    assert_colours(frame, rgb)


@pytest.mark.parametrize("matrix", ["bt601", "bt709", ""])
def test_h264_of_full_range(tmp_path: Path, matrix: str) -> None:
    """As network cameras send it, also without a word on the matrix."""
    rgb = patches()
    path = tmp_path / "a.mkv"
    colours = {"bt601": ":colormatrix=smpte170m", "bt709": ":colormatrix=bt709", "": ""}[matrix]
    options = {"crf": "1", "x264-params": f"fullrange=on{colours}"}
    encode(path, rgb, options, matrix or "bt601")
    elements = f"filesrc location={path} ! matroskademux ! h264parse ! avdec_h264"
    with open_source(f"pipeline:{elements}") as source:
        frame = next(source)
    assert (frame.matrix, frame.full_range) == (matrix or "bt601", True)
    assert_colours(frame, rgb)


def encode(path: Path, rgb: np.ndarray, options: dict[str, str], matrix: str) -> None:
    """A clip of one picture, whose full-range values we compute."""
    y, u, v = yuv_of(rgb, matrix, True)
    height, width = SIZE_HW
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        stream.options = options
        for _ in range(3):
            frame = av.VideoFrame(width, height, "yuvj420p")
            for target, plane in zip(
                frame.planes, (y, halved(u, 2, 2), halved(v, 2, 2)), strict=True
            ):
                rows = np.zeros((target.height, target.line_size), np.uint8)
                rows[:, : target.width] = plane
                target.update(rows.tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_an_unknown_matrix_is_said_once(tmp_path: Path) -> None:
    caps = "video/x-raw,format=I420,width=64,height=64,colorimetry=bt2020"
    with open_source(f"pipeline:videotestsrc num-buffers=20 ! {caps}") as source:
        assert len(list(source)) > 0
    (warning,) = source.warnings
    assert "neither BT.601 nor BT.709; bt601 is used" in warning


@pytest.mark.slow
def test_nor_again_when_the_camera_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    caps = "video/x-raw,format=I420,width=64,height=64,colorimetry=bt2020"
    elements = f"pipeline:videotestsrc num-buffers=5 ! {caps}"
    with ReconnectingSource(elements, ReconnectPolicy(first_s=0.01), lambda state: None) as camera:
        for _ in camera:
            if camera.connections == 3:
                break
    assert sum("neither BT.601" in record.message for record in caplog.records) == 1
    assert len(camera.warnings) == 1


@pytest.mark.parametrize(
    ("stated", "aspect"),
    [("12/11", (12, 11)), ("10/11", (10, 11)), ("1/1", (1, 1)), ("1000/1", (1, 1))],
)
def test_pixels_that_are_not_square(stated: str, aspect: tuple[int, int]) -> None:
    caps = f"video/x-raw,format=NV12,width=352,height=288,pixel-aspect-ratio={stated}"
    elements = f"pipeline:videotestsrc num-buffers=3 ! {caps}"
    with open_source(elements) as source:
        assert next(source).pixel_aspect == aspect
