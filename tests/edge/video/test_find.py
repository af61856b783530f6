"""What is a video in the folders that people have."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from edge.video.find import fault_of, find_videos, left_out_line, relative
from tests.support.av_clips import write_sound, write_video
from tests.support.pictures import fill


def found(root: Path) -> list[str]:
    return [relative(path, root) for path in find_videos(root).videos]


def left_out(root: Path) -> dict[str, str]:
    return {relative(path, root): why for path, why in find_videos(root).left_out.items()}


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_endings_in_any_case_are_videos(tmp_path: Path) -> None:
    endings = "MTS m2ts 3gp FLV mpeg vob ogv mxf dv Avi m4v mkv MOV mp4 mpg webm wmv 3g2 m2v"
    names = sorted(f"clip.{ending}" for ending in endings.split())
    assert found(touch(tmp_path, *names)) == names
    assert left_out(tmp_path) == {}


@pytest.mark.slow
def test_what_lies_beside_videos_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/clip.mp4")
    for name in (
        *("clip.json", "clip.srt", "notes.TXT", "list.xml", "Thumbs.db", "sound.MP3", "a.zip"),
        *("CLIP.THM", "GX01.LRV", "VIDEO_TS.IFO", "LICENSE", "Makefile", "poster.jpg"),
        *(".DS_Store", "._clip.mp4", ".hidden.mp4", ".trash/clip.mp4", "a/.old/deep/clip.mp4"),
    ):
        touch(tmp_path, name)
    (tmp_path / "app.ts").write_text("export const rate = 25;\n")
    (tmp_path / "empty.txt").write_text("")
    assert found(tmp_path) == ["a/b/clip.mp4"]
    assert left_out(tmp_path) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "container", "codec"),
    [
        ("clip", "matroska", "mpeg4"),
        ("clip.0001", "mp4", "mpeg4"),
        ("movie.dat", "vob", "mpeg2video"),
        ("MOV001.MOD", "mpeg", "mpeg2video"),
        ("record.bin", "mpegts", "mpeg2video"),
        ("what.ogg", "ogg", "libvpx"),
        ("export.video", "flv", "flv"),
        ("http:x", "avi", "mpeg4"),
    ],
)
def test_other_endings_are_judged_by_what_is_in_them(
    name: str, container: str, codec: str, tmp_path: Path
) -> None:
    write_video(tmp_path / name, container, codec)
    assert found(tmp_path) == [name]


@pytest.mark.slow
def test_other_content_is_no_video(tmp_path: Path) -> None:
    write_sound(tmp_path / "sound", "matroska")
    fill(tmp_path / "made", "1.jpg")
    (tmp_path / "made" / "1.jpg").rename(tmp_path / "picture")
    (tmp_path / "made").rmdir()
    (tmp_path / "list").write_text(f"#EXTM3U\n#EXTINF:4,\nfile://{tmp_path}/clip.mp4\n")
    (tmp_path / "numbers.bin").write_bytes(bytes(range(256)) * 64)
    write_video(tmp_path / "clip.mp4")
    write_video(tmp_path / "half.mp4.part", "mp4")
    (tmp_path / "moving.gif").write_bytes(b"GIF89a")
    (tmp_path / "moving.apng").write_bytes(b"\x89PNG")
    assert found(tmp_path) == ["clip.mp4"]
    assert left_out(tmp_path) == {
        "half.mp4.part": "is not finished; remove it, or rename it if it is whole",
        "moving.apng": "is an animated picture; make it a video",
        "moving.gif": "is an animated picture; make it a video",
        "numbers.bin": "is not a video that can be read",
    }


def test_what_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    touch(tmp_path, "good.mp4")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "round.mp4").symlink_to(tmp_path / "round.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s.mp4"))
        assert found(tmp_path) == ["good.mp4"]
        assert left_out(tmp_path) == {
            "empty.mp4": "is empty (0 bytes)",
            "gone.mp4": "is a link that leads nowhere",
            "pipe.mp4": "is not a regular file",
            "round.mp4": "is a link that leads nowhere",
            "s.mp4": "is not a regular file",
        }
    line = left_out_line(tmp_path, find_videos(tmp_path).left_out)
    assert line.startswith(f"{tmp_path}: 5 left out: empty.mp4 (is empty (0 bytes)), gone.mp4 (")
    assert line.endswith(" and 2 more")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "closed/b.mp4", "listed/c.mp4")
    for name, mode in (("a.mp4", 0), ("closed", 0), ("listed", stat.S_IRUSR)):
        (tmp_path / name).chmod(mode)
    try:
        assert found(tmp_path) == []
        assert left_out(tmp_path) == {
            "a.mp4": "no permission to read it",
            "closed": "cannot be read (Permission denied)",
            "listed/c.mp4": "cannot be read (Permission denied)",
        }
    finally:
        for name in ("closed", "listed"):
            (tmp_path / name).chmod(stat.S_IRWXU)


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(root, "b/clip.mp4")
    touch(tmp_path, "elsewhere/take/far.mp4")
    (root / "a").symlink_to(root / "b")  # sorts before the folder itself
    (root / "b" / "up").symlink_to(root)
    (root / "outside").symlink_to(tmp_path)
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "linked2").symlink_to(tmp_path / "elsewhere")
    (root / "one.mp4").symlink_to(tmp_path / "elsewhere" / "take" / "far.mp4")
    assert found(root) == ["b/clip.mp4", "linked/take/far.mp4", "one.mp4"]
    assert left_out(root) == {}


def test_folders_of_pictures_are_clips(tmp_path: Path) -> None:
    fill(tmp_path / "wave" / "one", "f1.jpg", "f2.jpg")
    fill(
        tmp_path / "wave" / "anna" / "two", "img_1.PNG", "img_2.PNG", "flow_x_1.png", "flow_y_1.png"
    )
    fill(tmp_path / "wave" / "short", "f1.jpg")
    for part in ("rgb", "flow_x", "flow_y"):
        fill(tmp_path / "wave" / "three" / part, "1.jpg", "2.jpg")
    assert found(tmp_path) == ["wave/anna/two", "wave/one", "wave/short", "wave/three/rgb"]
    assert left_out(tmp_path) == {}
    assert find_videos(tmp_path / "wave" / "one").videos == (tmp_path / "wave" / "one",)


def test_pictures_that_are_no_clip_are_named_or_belong_to_videos(tmp_path: Path) -> None:
    touch(fill(tmp_path / "thumbs", "clip1.jpg", "clip2.jpg"), "clip1.mp4", "clip2.mp4")
    touch(fill(tmp_path / "docs", "plan.png", "map.png"), "more/clip.mp4")
    fill(tmp_path / "mixed", "a1.jpg", "a2.jpg", "b1.jpg")
    fill(tmp_path / "loose", "x.jpg", "y.jpg")
    assert found(tmp_path) == ["docs/more/clip.mp4", "thumbs/clip1.mp4", "thumbs/clip2.mp4"]
    assert list(left_out(tmp_path)) == ["loose", "mixed"]
    assert "a: 2, b: 1" in left_out(tmp_path)["mixed"]
    assert left_out(tmp_path)["loose"].startswith("x.jpg: has no number")


def test_a_single_path_is_judged_alike(tmp_path: Path) -> None:
    fill(tmp_path / "clip", "1.jpg", "2.jpg")
    touch(tmp_path, "notes.txt", "a.mp4")
    assert fault_of(tmp_path / "clip") is None
    assert fault_of(tmp_path / "a.mp4") is None
    assert "has no pictures" in str(fault_of(tmp_path))
    assert fault_of(tmp_path / "nowhere") == "cannot be read (No such file or directory)"
    assert find_videos(tmp_path / "a.mp4").videos == (tmp_path / "a.mp4",)
