"""`twostream data check`: every fault is found, named and counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.av_clips import write_video
from tests.support.clips import turn_clip, write_clip
from tests.support.command import Running, assert_refused, twostream
from tests.support.deaths import kill_reader
from tests.support.pictures import fill
from train.commands.data import data_command
from train.data.check import judge
from train.data.clips import Clip


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
    for number, name in enumerate((*good, pushups, bad["unlisted"])):
        write_clip(videos / name, frames=12 + number, size_hw=(48, 64))
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


def test_damage_within_a_clip_is_a_fault(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.ts", frames=40, codec="h264", pattern="snow")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 10] = bytes(len(data) // 10)
    path.write_bytes(data)
    fault = judge(Clip("a", path, "a", "a"), history=10, interval_s=0.04).fault
    assert fault.startswith("damaged: ")


def test_a_picture_that_is_gone_is_named(tmp_path: Path) -> None:
    folder = fill(tmp_path / "clip", "1.jpg")
    (folder / "2.jpg").symlink_to("nowhere.jpg")
    fault = judge(Clip("clip", folder, "a", "a"), history=10, interval_s=0.04).fault
    assert fault == f"unreadable: {folder / '2.jpg'}: No such file or directory"


@pytest.mark.parametrize(
    ("rate", "note"),
    [
        (10, "10 frames a second; an input spans more time"),
        (17, "17 frames a second; an input spans more time"),
        (20, None),
        (30, None),
        (60, "60 frames a second, of which 30 are used"),
        (100, "100 frames a second, of which 33 are used"),
    ],
)
def test_another_frame_rate_is_noted(rate: int, note: str | None, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=60, rate=rate)
    verdict = judge(Clip("a", path, "a", "a"), history=10, interval_s=0.04)
    assert verdict.fault == ""
    assert verdict.notes == ({"other frame rate than in training": note} if note else {})


def test_a_video_that_is_turned_is_noted(tmp_path: Path) -> None:
    path = turn_clip(write_clip(tmp_path / "a.mp4", frames=20, size_hw=(48, 64), codec="h264"))
    verdict = judge(Clip("a", path, "a", "a"), history=10, interval_s=0.04)
    assert verdict.notes == {"turned upright, as the file says": "48 x 64 px then"}


@pytest.mark.slow
def test_each_fault_is_named_and_counted(tmp_path: Path) -> None:
    done = twostream("data", "check", faulty(tmp_path))
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith("7 clips to train on, 1 to test on; classes: 2")
    for kind, name in (
        (
            "class with clips that are listed, not on disk: 1",
            "Diving (1 of 8: v_Diving_g20_c01.avi)",
        ),
        ("too short: 1", "g10_c01.avi (9 frames; an input needs 11)"),
        ("group in training and in test: 1", "Diving 09"),
        ("on disk, in no list: 1", "Diving/v_Diving_g14_c01.avi"),
    ):
        assert name in lines[lines.index(kind) + 1]
    assert "unreadable: 2" in lines
    assert "v_Diving_g11_c01.avi (not a readable video" in done.stdout
    assert "v_Diving_g12_c01.avi (" in done.stdout
    cut = lines[lines.index("broken off: 1") + 1]
    assert "g13_c01.avi (" in cut
    assert "its end is missing)" in cut
    assert "spelt in two ways, which is accepted: 2" in lines
    doubt = "no test clip says how well HandstandPushups (1 group) will be recognised"
    assert f"{doubt}; 5 groups of clips are enough" in lines
    assert lines[-1] == "6 faults"


@pytest.mark.slow
def test_a_good_data_set_is_said_to_be_good(tmp_path: Path) -> None:
    levels = iter(range(16, 100))
    for label in ("wave", "jump", "other"):
        (tmp_path / label).mkdir()
        for number in range(5):
            write_video(tmp_path / label / f"{number}.mp4", first_level=next(levels))
    done = twostream("data", "check", tmp_path, "--classes", "wave,jump")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[1:] == ["nothing is wrong"]
    assert_refused(twostream("data", "check", tmp_path / "nowhere"), "nowhere")
    assert_refused(twostream("data", "mend", tmp_path), "mend")


@pytest.mark.slow
def test_what_training_would_pass_over_is_listed(tmp_path: Path) -> None:
    levels = iter(range(16, 100))
    for name in ("wave/1.mp4", "wave/2.mts", "jump/1.mp4", "jump/anna/day 2/2.mp4"):
        write_video(tmp_path / name, first_level=next(levels))
    write_video(tmp_path / "lost.mp4")
    fill(tmp_path / "kick", "1.jpg", "2.jpg")  # a clip, but without a folder of its own
    fill(tmp_path / "wave" / "two", "a1.jpg", "b1.jpg")
    (tmp_path / "wave" / "3.mp4").write_bytes(b"")
    (tmp_path / "wave" / "4.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "swim").mkdir()
    done = twostream("data", "check", tmp_path)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].endswith("2 clips to train on, 2 to test on; classes: 2")
    start = lines.index("left out: 6") + 1
    listed = [line.strip() for line in lines[start : start + 6]]
    for name, reason in (
        ("kick", "its pictures are in no folder of a clip, <Class>/<clip>/"),
        ("lost.mp4", "is in no class folder"),
        ("swim", "has no clip"),
        ("wave/3.mp4", "is empty (0 bytes)"),
        ("wave/4.mp4", "is a link that leads nowhere"),
    ):
        assert f"{name} ({reason})" in listed
    assert any(
        line.startswith("wave/two (holds pictures of 2 names (a: 1, b: 1)") for line in listed
    )
    trained = twostream("train", "spatial", tmp_path, "--classes", "wave,swim")
    assert_refused_last(trained.stderr, "no training clips of swim")
    assert f"{tmp_path}: 6 left out: " in trained.stderr
    assert "twostream data check" in trained.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folders", "why"),
    [
        (("wave",), "two or more classes are needed"),
        (("wave", "Unknown"), "class 'Unknown': "),
        (("a b", "a  b"), "look alike"),
    ],
)
def test_what_training_would_refuse_is_a_fault(
    folders: tuple[str, ...],
    why: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for level, folder in enumerate(folders):
        for number in range(2):
            write_video(
                tmp_path / folder / f"{number}.mp4", frames=12, first_level=20 + 2 * level + number
            )
    with pytest.raises(SystemExit) as ended:
        data_command("check", tmp_path, workers=1)
    assert ended.value.code == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("it cannot be trained on: ")
    assert why in last


@pytest.mark.slow
def test_clips_that_training_leaves_out_make_no_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for level, label in enumerate(("jump", "wave", "other")):
        for number in range(5):
            path = tmp_path / label / f"{number}.mp4"
            write_video(
                path, frames=5 if label == "wave" else 12, first_level=20 + 5 * level + number
            )
    with pytest.raises(SystemExit):
        data_command("check", tmp_path, classes="jump,wave", workers=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "too short: 5"
    assert "no bundle can be made of it: wave has no clip to train on" in lines[-2]
    assert lines[-1] == "5 faults"


def assert_refused_last(said: str, words: str) -> None:
    assert words in said.splitlines()[-1]
    assert "Traceback" not in said


@pytest.mark.slow
def test_one_content_under_two_names_is_reported(tmp_path: Path) -> None:
    levels = iter(range(16, 100, 3))
    for name in ("wave/1.mp4", "wave/2.mp4", "jump/1.mp4", "jump/2.mp4"):
        write_video(tmp_path / name, first_level=next(levels))
    for name, of in (("jump/copy.mp4", "wave/1.mp4"), ("wave/again.mp4", "wave/2.mp4")):
        (tmp_path / name).write_bytes((tmp_path / of).read_bytes())
    for name in ("wave/pictures", "jump/pictures"):
        fill(tmp_path / name, *(f"{number}.png" for number in range(12)))
    lines = twostream("data", "check", tmp_path).stdout.splitlines()
    start = lines.index("same content in two classes: 2")
    assert {lines[start + 1].strip(), lines[start + 2].strip()} == {
        "jump/copy.mp4 = wave/1.mp4",
        "jump/pictures = wave/pictures",
    }
    start = lines.index("same content twice in a class: 1")
    assert lines[start + 1].strip() == "wave/2.mp4 = wave/again.mp4"


@pytest.mark.slow
def test_a_part_of_ucf101_is_told_by_class(tmp_path: Path) -> None:
    names = [f"Diving/v_Diving_g{g:02}_c0{c}.avi" for g in range(1, 26) for c in range(1, 5)]
    names += [f"Surfing/v_Surfing_g{g:02}_c01.avi" for g in range(1, 26)]
    there = (names[0], names[4], names[8], names[-1])
    for level, name in enumerate(there):
        write_video(tmp_path / "UCF-101" / name, first_level=20 + level)
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "trainlist01.txt").write_text("".join(f"{name} 1\n" for name in names))
    (lists / "testlist01.txt").write_text("")
    done = twostream("data", "check", tmp_path)
    lines = done.stdout.splitlines()
    start = lines.index("class with clips that are listed, not on disk: 2")
    assert lines[start + 1].strip() == "Diving (97 of 100: v_Diving_g01_c02.avi, ...)"
    assert lines[start + 2].strip() == "Surfing (24 of 25: v_Surfing_g01_c01.avi, ...)"
    assert lines[-1] == "no clip has a fault"
    assert done.returncode == 0


@pytest.mark.slow
def test_a_clip_that_kills_its_reader_is_named_and_the_others_are_checked(tmp_path: Path) -> None:
    for level, name in enumerate(
        ("wave/1.mp4", "wave/2.mp4", "wave/3.mp4", "jump/1.mp4", "jump/2.mp4")
    ):
        write_video(tmp_path / name, first_level=20 + level)
    large = write_video(tmp_path / "jump" / "3.mkv", size_hw=(3072, 4096))
    with Running("data", "check", tmp_path, "--workers", "2") as run:
        kill_reader(run, large)
        run.finished(code=1)
    lines = [line.strip() for line in run.lines]
    assert lines[0].endswith("4 clips to train on, 2 to test on; classes: 2")
    start = lines.index("unreadable: 1")
    assert lines[start + 1].startswith("jump/3.mkv (the process that read it was killed")
    assert lines[-1] == "1 fault"
