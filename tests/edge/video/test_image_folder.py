"""Folders of pictures as people have them: which are read, in which order, at which times, and in
which colours."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import SourceError
from edge.video.image_folder import list_images, read_image_folder
from tests.support.pictures import fill

BGR = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0), "white": (255, 255, 255)}
# BT.601 in limited range, as in the tables of the standard (ITU-R BT.601-7 and BT.801)
YUV = {
    "red": (81, 90, 240),
    "green": (145, 54, 34),
    "blue": (41, 240, 110),
    "white": (235, 128, 128),
}


def names(folder: Path) -> list[str]:
    return [path.name for path in list_images(folder)]


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(SourceError) as caught:
        list_images(folder)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "pattern",
    ["frame{}.jpg", "{}.png", "IMG_{}.JPG", "cam-2_{}.bmp", "clip ({}).jpeg", "a.{}.webp"],
)
def test_the_order_is_that_of_the_numbers(pattern: str, tmp_path: Path) -> None:
    wanted = [pattern.format(number) for number in (1, 2, 9, 10, 11, 100)]
    fill(tmp_path, *reversed(wanted))
    assert names(tmp_path) == wanted


def test_what_is_no_picture_of_the_clip_is_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, "f1.jpg", "f2.TIF")
    fill(tmp_path, ".f3.jpg")
    (tmp_path / "._f1.jpg").write_bytes(b"\0\5\x16\7")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "f4.jpg").mkdir()
    assert names(tmp_path) == ["f1.jpg", "f2.TIF"]


@pytest.mark.parametrize(
    ("rgb", "flow"),
    [
        ("img_{:05}.jpg", ("flow_x_{:05}.jpg", "flow_y_{:05}.jpg")),
        ("frame{}.png", ("x_{}.png", "y_{}.png")),
        ("image_{}.jpg", ("u_{}.jpg", "v_{}.jpg")),
        ("{}.jpg", ("flowX{}.jpg", "flowY{}.jpg")),
        ("f{}.jpg", ("f-flow-u-{}.jpg", "f-flow-v-{}.jpg")),
    ],
)
def test_flow_beside_the_pictures_is_not_read(
    rgb: str, flow: tuple[str, str], tmp_path: Path
) -> None:
    for pattern in (*flow, rgb):
        fill(tmp_path, *(pattern.format(number) for number in (1, 2, 3)))
    assert names(tmp_path) == [rgb.format(number) for number in (1, 2, 3)]


def test_what_is_not_one_clip_is_refused_by_name(tmp_path: Path) -> None:
    refused(fill(tmp_path / "two", "a1.jpg", "a2.jpg", "b1.jpg"), "two", "a: 2", "b: 1", "its own")
    refused(fill(tmp_path / "flow", "flow_x_1.jpg", "flow_y_1.jpg"), "flow", "no pictures")
    refused(fill(tmp_path / "half", "img_1.jpg", "flow_x_1.jpg"), "flow_x_: 1")
    refused(fill(tmp_path / "pad", "1.jpg", "01.jpg"), "01.jpg", "1.jpg", "same number")
    refused(fill(tmp_path / "kind", "a1.jpg", "a1.png"), "a1.jpg", "a1.png", "same number")
    refused(fill(tmp_path / "none", "a.jpg", "b.jpg"), "a.jpg", "no number")
    refused(fill(tmp_path / "cover", "cover.jpg", "f1.jpg", "f2.jpg"), "cover.jpg", "no number")
    refused(fill(tmp_path / "copy", "f1.jpg", "f1 (1).jpg"), "f1 (: 1")
    refused(fill(tmp_path / "empty"), "empty", "has no pictures")
    refused(tmp_path / "nowhere", "nowhere")


@pytest.mark.parametrize(
    ("numbers", "times"),
    [
        ((1, 2, 3, 4), (0, 1, 2, 3)),
        ((0, 1, 2, 6, 7), (0, 1, 2, 6, 7)),
        ((5, 10, 15, 25), (0, 1, 2, 4)),
        ((8,), (0,)),
        ((100, 103, 106, 107), (0, 1, 2, 7 / 3)),
    ],
)
def test_a_hole_in_the_numbers_is_a_gap_in_time(
    numbers: tuple[int, ...], times: tuple[float, ...], tmp_path: Path
) -> None:
    fill(tmp_path, *(f"f{number}.png" for number in numbers))
    frames = list(read_image_folder(tmp_path))
    assert [frame.time_s for frame in frames] == pytest.approx([time / 25 for time in times])
    assert [frame.index for frame in frames] == list(range(len(numbers)))


@pytest.mark.parametrize("size_hw", [(16, 24), (17, 24), (16, 25), (17, 25), (1, 1)])
@pytest.mark.parametrize("colour", BGR)
def test_colours_are_limited_range_bt601(
    colour: str, size_hw: tuple[int, int], tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.full((*size_hw, 3), BGR[colour], np.uint8))
    (frame,) = read_image_folder(tmp_path)
    height, width = size_hw
    half = ((height + 1) // 2, (width + 1) // 2)
    assert frame.size_hw == size_hw
    assert (frame.matrix, frame.full_range) == ("bt601", False)
    for plane, shape, level in zip(
        (frame.y, frame.u, frame.v), (size_hw, half, half), YUV[colour], strict=True
    ):
        assert plane.shape == shape
        assert np.abs(plane.astype(int) - level).max() <= 1


def test_chroma_is_the_mean_of_its_four_pixels(tmp_path: Path) -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[::2, ::2] = BGR["white"]  # of each four pixels one
    picture[1::2, 1::2] = BGR["red"]
    cv2.imwrite(str(tmp_path / "1.png"), picture)
    (frame,) = read_image_folder(tmp_path)
    assert frame.v.tolist() == [[(128 * 3 + 240) // 4] * 2] * 2


def test_a_jpeg_has_the_levels_that_its_coder_wrote(tmp_path: Path) -> None:
    """Against FFmpeg, which gives the JPEG's own planes, of full range."""
    import av

    random = np.random.default_rng(0)
    smooth = cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), (63, 47))
    cv2.imwrite(str(tmp_path / "1.jpg"), smooth, [cv2.IMWRITE_JPEG_QUALITY, 95])
    (frame,) = read_image_folder(tmp_path)
    with av.open(str(tmp_path / "1.jpg")) as container:
        picture = next(container.decode(video=0))
    for plane, own, scale, zero in (
        (picture.planes[0], frame.y, 219, 16.0),
        (picture.planes[1], frame.u, 224, 128 - 128 * 224 / 255),
        (picture.planes[2], frame.v, 224, 128 - 128 * 224 / 255),
    ):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        levels = zero + rows[: own.shape[0], : own.shape[1]] * (scale / 255)
        assert np.abs(own - levels).mean() < 1.5


@pytest.mark.parametrize("ending", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("kind", ["alpha", "deep", "grey", "deep grey"])
def test_pictures_of_other_kinds_look_the_same(kind: str, ending: str, tmp_path: Path) -> None:
    if ending == ".webp" and "deep" in kind:
        pytest.skip("WebP has 8 bits")
    random = np.random.default_rng(1)
    picture = cv2.resize(random.integers(0, 256, (4, 6, 3), np.uint8), (48, 32))
    if "grey" in kind:
        picture = np.repeat(picture[..., :1], 3, 2)
    other = picture[..., 0] if "grey" in kind else picture
    if kind == "alpha":
        other = np.dstack([picture, np.full(picture.shape[:2], 40, np.uint8)])
    if "deep" in kind:
        other = other.astype(np.uint16) * 257
    for folder, written, name in (("plain", picture, "1.png"), ("other", other, "1" + ending)):
        (tmp_path / folder).mkdir()
        lossless = [cv2.IMWRITE_WEBP_QUALITY, 101] if name.endswith(".webp") else []
        assert cv2.imwrite(str(tmp_path / folder / name), written, lossless)
    (one,), (two,) = (read_image_folder(tmp_path / folder) for folder in ("plain", "other"))
    for name in ("y", "u", "v"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    if "grey" in kind:
        assert set(two.u.ravel()) | set(two.v.ravel()) == {128}


def test_a_palette_is_colours(tmp_path: Path) -> None:
    """A PNG of four pixels, each an index into two colours, written by hand."""
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    rows = b"".join(b"\0" + bytes([0, 0, 1, 1]) for _ in range(4))
    (tmp_path / "1.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 3, 0, 0, 0))
        + chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255]))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    (frame,) = read_image_folder(tmp_path)
    red, blue = YUV["red"], YUV["blue"]
    assert frame.y[0].tolist() == [red[0]] * 2 + [blue[0]] * 2
    assert frame.u[0].tolist() == [red[1], blue[1]]


def test_a_camera_on_its_side_is_upright(tmp_path: Path) -> None:
    """EXIF's orientation 6: the top of the scene is the first column of the stored picture."""
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:, :24] = 255
    coded = cv2.imencode(".jpg", picture)[1].tobytes()
    tiff = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + tiff
    mark = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    (tmp_path / "1.jpg").write_bytes(coded[:2] + mark + coded[2:])
    (frame,) = read_image_folder(tmp_path)
    assert frame.size_hw == (48, 32)
    assert frame.y[:20].min() > 200
    assert frame.y[28:].max() < 50


def test_a_picture_that_does_not_fit_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "size", "1.png", "2.png")
    fill(tmp_path / "size", "3.png", size_hw=(16, 26))
    fill(tmp_path / "cut", "1.png", "2.jpg")
    whole = (tmp_path / "cut" / "2.jpg").read_bytes()
    (tmp_path / "cut" / "2.jpg").write_bytes(whole[:-20])  # decoders are content with this
    fill(tmp_path / "other", "1.png", "2.png")
    (tmp_path / "other" / "2.png").write_bytes(b"")
    fill(tmp_path / "link", "1.png")
    (tmp_path / "link" / "2.png").symlink_to("2.png")
    for folder, says in (
        ("link", r"2\.png: cannot be read \("),
        ("size", r"3\.png: is 26 x 16"),
        ("cut", r"2\.jpg: its end is missing"),
        ("other", r"2\.png: not a readable image"),
    ):
        with pytest.raises(SourceError, match=says):
            list(read_image_folder(tmp_path / folder))
