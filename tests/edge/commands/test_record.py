"""`twostream actions record`: a sitting becomes takes in a folder for each action."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.commands.record import Sitting, record
from edge.errors import OutputError, SourceError
from edge.sources.source import open_source
from tests.support.command import twostream
from tests.support.rtsp import RtspServer

BALL = "test://?pattern=ball&rate=25&width=320&height=240"


def takes(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.*"))


def length(file: Path) -> int:
    with open_source(str(file)) as source:
        return sum(1 for _ in source)


@pytest.mark.slow
def test_each_take_has_its_seconds_and_each_pause_is_background(tmp_path: Path) -> None:
    record(tmp_path, Sitting(("Wave", "Jump up"), 2, 2.0, 1.0), BALL)
    assert takes(tmp_path) == [
        *("Jump up/take-001.mp4", "Jump up/take-002.mp4"),
        *("Wave/take-001.mp4", "Wave/take-002.mp4"),
        *(f"background/take-00{number}.mp4" for number in (1, 2, 3, 4)),
    ]
    assert {length(file) for file in tmp_path.glob("[JW]*/*")} == {50}
    assert {length(file) for file in tmp_path.glob("background/*")} == {25}


@pytest.mark.slow
def test_takes_of_earlier_sittings_stay(tmp_path: Path) -> None:
    record(tmp_path, Sitting(("Wave",), 2, 1.0, 1.0), BALL)
    (tmp_path / "Wave" / "take-001.mp4").unlink()
    kept = (tmp_path / "Wave" / "take-002.mp4").read_bytes()
    record(tmp_path, Sitting(("Wave",), 1, 1.0, 1.0), BALL)
    assert takes(tmp_path / "Wave") == ["take-002.mp4", "take-003.mp4"]
    assert (tmp_path / "Wave" / "take-002.mp4").read_bytes() == kept


def test_a_source_that_ends_leaves_whole_takes_alone(tmp_path: Path) -> None:
    """Frames for the first take and the pause after it, and for a part of the second take."""
    with pytest.raises(SourceError, match=r"ended in .*take 2 of 3.*; 1 of 3 takes recorded"):
        record(tmp_path, Sitting(("Wave",), 3, 1.0, 1.0), f"{BALL}&frames=150")
    assert takes(tmp_path) == [
        "Wave/take-001.mp4",
        "background/take-001.mp4",
        "background/take-002.mp4",
    ]


@pytest.mark.parametrize("name", ["../x", ".hidden", "a/b", "unknown", "", "--flag"])
def test_a_name_that_is_no_folder_is_refused_before_anything_is_made(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(OutputError, match="rename it"):
        record(tmp_path / "new", Sitting(("Wave", name), 1, 1.0, 1.0), BALL)
    assert not (tmp_path / "new").exists()


def test_an_action_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="named twice"):
        record(tmp_path / "new", Sitting(("Wave", "wave"), 1, 1.0, 1.0), BALL)


@pytest.mark.slow
def test_a_camera_is_recorded_by_the_command(tmp_path: Path) -> None:
    with RtspServer(rate=25) as server:
        done = twostream(
            *("actions", "record", tmp_path / "clips", "Wave", "--source", server.url),
            *("--takes", 1, "--seconds", 1, "--pause", 1),
        )
    assert done.returncode == 0, done.stderr
    assert "get ready for Wave, take 1 of 1" in done.stderr
    assert "now: Wave, take 1 of 1" in done.stderr
    assert takes(tmp_path / "clips") == ["Wave/take-001.mp4", "background/take-001.mp4"]
    refused = twostream("actions", "record", tmp_path, "Wave", "--source", "/dev/video77")
    assert refused.returncode == 2
    assert "no such camera" in refused.stderr
