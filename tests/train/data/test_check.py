"""`twostream data check`: every fault is found, named and counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.clips import write_clip
from tests.support.command import assert_refused, twostream


def faulty(root: Path) -> Path:
    """A UCF101 tree with one of each fault."""
    good = [f"Diving/v_Diving_g{g:02}_c01.avi" for g in (8, 9)]
    pushups = "HandstandPushups/v_HandStandPushups_g08_c01.avi"
    bad = {
        name: f"Diving/v_Diving_g{g}_c01.avi"
        for name, g in (("short", 10), ("text", 11), ("empty", 12), ("cut", 13), ("unlisted", 14))
    }
    videos = root / "UCF-101"
    for name in (*good, pushups, *bad.values()):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
    for name in (*good, pushups, bad["unlisted"]):
        write_clip(videos / name, frames=12, size_hw=(48, 64))
    write_clip(videos / bad["short"], frames=9, size_hw=(48, 64))
    (videos / bad["text"]).write_text("not a video\n" * 50)
    (videos / bad["empty"]).write_bytes(b"")
    whole = write_clip(videos / bad["cut"], frames=60, size_hw=(48, 64)).read_bytes()
    (videos / bad["cut"]).write_bytes(whole[: len(whole) * 2 // 3])
    train = [*good, pushups, bad["short"], bad["text"], bad["empty"], bad["cut"]]
    lists = root / "ucfTrainTestlist"
    lists.mkdir()
    train.append("Diving/v_Diving_g20_c01.avi")
    (lists / "trainlist01.txt").write_text("".join(f"{name} 1\n" for name in train))
    (lists / "testlist01.txt").write_text(f"{good[1]}\n")
    return root


@pytest.mark.slow
def test_each_fault_is_named_and_counted(tmp_path: Path) -> None:
    done = twostream("data", "check", faulty(tmp_path))
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith("7 clips to train on, 1 to test on, 2 classes")
    for kind, name in (
        ("listed, not on disk: 1", "Diving/v_Diving_g20_c01.avi"),
        ("too short: 1", "g10_c01.avi (9 frames; an input needs 11)"),
        ("group in training and in test: 1", "Diving 09"),
        ("on disk, in no list: 1", "Diving/v_Diving_g14_c01.avi"),
        ("class with too few groups to train on: 1", "HandstandPushups (1 in training)"),
    ):
        assert name in lines[lines.index(kind) + 1]
    assert "unreadable: 2" in lines
    assert "v_Diving_g11_c01.avi (not a readable video" in done.stdout
    assert "v_Diving_g12_c01.avi (" in done.stdout
    cut = lines[lines.index("broken off: 1") + 1]
    assert "g13_c01.avi (" in cut
    assert "its end is missing)" in cut
    assert "spelt in two ways, which is accepted: 2" in lines
    assert lines[-1] == "8 faults"


@pytest.mark.slow
def test_a_good_data_set_is_said_to_be_good(tmp_path: Path) -> None:
    for label in ("wave", "jump"):
        (tmp_path / label).mkdir()
        for number in range(3):
            write_clip(tmp_path / label / f"{number}.mp4", frames=12, codec="h264")
    done = twostream("data", "check", tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "nothing is wrong"
    assert_refused(twostream("data", "check", tmp_path / "nowhere"), "nowhere")
    assert_refused(twostream("data", "mend", tmp_path), "mend")
