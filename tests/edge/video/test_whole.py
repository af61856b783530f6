"""Files that lack their end are told from whole ones, by the container's own lengths."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.video.whole import is_cut_short
from tests.support.av_clips import write_video

CONTAINERS = [
    ("a.mp4", None, "mpeg4"),
    ("a.mov", None, "mjpeg"),
    ("a.3gp", None, "mpeg4"),
    ("a.mkv", None, "ffv1"),
    ("a.webm", None, "libvpx"),
    ("a.avi", None, "mpeg4"),
    ("a.flv", None, "flv"),
    ("a.ogv", "ogg", "libvpx"),
    ("a.wmv", "asf", "wmv2"),
    ("a.ts", None, "mpeg2video"),
    ("a.m2ts", None, "mpeg2video"),
]


@pytest.mark.parametrize(("name", "container", "codec"), CONTAINERS)
def test_a_file_without_its_end(
    name: str, container: str | None, codec: str, tmp_path: Path
) -> None:
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_video(tmp_path / name, container, codec, frames=40, pixels=pixels)
    data = path.read_bytes()
    assert not is_cut_short(path)
    for share in (0.5, 0.9):
        # within a packet of a transport stream, and within a picture elsewhere
        path.write_bytes(data[: int(len(data) * share) // 192 * 192 + 50])
        assert is_cut_short(path)


@pytest.mark.parametrize(("name", "codec"), [("a.flv", "flv"), ("a.ts", "mpeg2video")])
def test_recordings_joined_by_cat_are_whole(name: str, codec: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, codec=codec)
    path.write_bytes(2 * path.read_bytes())
    assert not is_cut_short(path)


def test_what_is_no_video_is_not_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    for content in (b"", b"G", b"const a = 1;\n" * 100, bytes(3000)):
        path.write_bytes(content)
        assert not is_cut_short(path)
