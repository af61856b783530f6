"""A file that ends the process that reads it costs itself alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.sources.first_frames import crashes
from tests.support.av_clips import write_video
from tests.support.command import Running
from tests.support.deaths import kill_reader
from tests.support.pictures import fill


@pytest.mark.slow
def test_a_file_that_kills_its_reader_is_named_and_the_others_are_read(
    tmp_path: Path, light_bundle: Path
) -> None:
    folder = tmp_path / "clips"
    write_video(folder / "a.mp4", frames=20)
    write_video(folder / "b.mkv", size_hw=(3072, 4096))  # large: it is open for long enough
    write_video(folder / "c.mp4", frames=20, first_level=60)
    out = tmp_path / "o.jsonl"
    with Running("run", light_bundle, folder, "--json", out) as run:
        kill_reader(run, folder / "b.mkv")
        said = run.finished(code=2)
    assert f"not read any further: {folder / 'b.mkv'}: the process that read it was killed" in said
    assert "1 source could not be read" in said.splitlines()[-1]
    lines = out.read_text()
    for name in ("a.mp4", "c.mp4"):
        assert lines.count(f'"source":"{folder / name}","frame"') == 20


@pytest.mark.slow
def test_what_is_merely_unreadable_is_no_crash(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(b"not a video" * 50)
    fill(tmp_path / "c", "1.jpg", "2.jpg")
    uris = [str(tmp_path / name) for name in ("a.mp4", "b.mp4", "c", "gone.mp4")]
    assert list(crashes(uris)) == [None] * 4


@pytest.mark.slow
def test_what_is_wrong_with_a_file_is_not_said_here(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The run says it when it reads the file; twice would be once too often."""
    cut = write_video(tmp_path / "cut.avi", codec="mjpeg", pixels="yuvj420p", frames=4)
    cut.write_bytes(cut.read_bytes()[:-500])
    assert list(crashes([str(cut), str(write_video(tmp_path / "a.mp4"))])) == [None] * 2
    assert "its end is missing" not in capfd.readouterr().err
