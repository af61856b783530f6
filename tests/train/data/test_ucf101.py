"""Lists, spellings, groups and the validation part."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import DataError
from train.data.clips import Clip
from train.data.splits import hold_out
from train.data.ucf101 import load_split


def tree(root: Path, train: list[str], test: list[str], on_disk: list[str]) -> Path:
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    (lists / "trainlist01.txt").write_text("".join(f"{name} 1\n" for name in train))
    (lists / "testlist01.txt").write_text("".join(f"{name}\n" for name in test))
    for name in on_disk:
        path = root / "UCF-101" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (root / "UCF-101").mkdir(exist_ok=True)
    return root


def test_official_lists_are_read_and_missing_clips_counted(ucf101: Path) -> None:
    split = load_split(ucf101, 1)
    assert len(split.train) + len(split.test) + len(split.missing) == 9537 + 3783
    assert len(split.train) > 0 < len(split.test)
    assert not {c.name for c in split.train} & {c.name for c in split.test}
    assert all(clip.path.is_file() for clip in split.train)


@pytest.mark.parametrize("folder", ["HandstandPushups", "HandStandPushups"])
@pytest.mark.parametrize("file", ["HandstandPushups", "HandStandPushups"])
def test_both_spellings_of_handstand_pushups_are_read(
    tmp_path: Path, folder: str, file: str
) -> None:
    listed = ["HandstandPushups/v_HandStandPushups_g08_c01.avi"]
    root = tree(tmp_path, listed, [], [f"{folder}/v_{file}_g08_c01.avi"])
    split = load_split(root, 1)
    assert [clip.label for clip in split.train] == ["HandstandPushups"]
    assert split.missing == ()


def test_a_group_in_both_lists_is_refused(tmp_path: Path) -> None:
    train, test = "Diving/v_Diving_g08_c01.avi", "Diving/v_Diving_g08_c02.avi"
    with pytest.raises(DataError, match="Diving group 08"):
        load_split(tree(tmp_path, [train], [test], [train, test]), 1)


@pytest.mark.parametrize(
    ("number", "line", "says"),
    [(4, "", "splits 1, 2 and 3"), (1, "Diving/clip7.avi", "trainlist01.txt:1")],
)
def test_invalid_lists_are_named(tmp_path: Path, number: int, line: str, says: str) -> None:
    root = tree(tmp_path, [line] if line else [], [], [])
    with pytest.raises(DataError, match=says):
        load_split(root, number)


def test_a_folder_without_ucf101_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ucfTrainTestlist/ is missing"):
        load_split(tmp_path, 1)


def clips(label: str, groups: int, each: int = 2) -> list[Clip]:
    return [
        Clip(f"{label}/v_{label}_g{g:02}_c{c:02}.avi", Path(), label, f"{g:02}")
        for g in range(1, groups + 1)
        for c in range(each)
    ]


def test_validation_holds_out_groups_of_the_classes_and_whole_other_classes() -> None:
    negatives = [c for label in "ABCDEFGH" for c in clips(label, 1)]
    everything = tuple(clips("Diving", 18) + clips("Biking", 3) + negatives)
    train, validation = hold_out(everything, ("Biking", "Diving"), 0.15)
    assert sorted(train + validation, key=str) == sorted(everything, key=str)
    assert not {(c.label, c.group) for c in train} & {(c.label, c.group) for c in validation}
    assert len({c.group for c in validation if c.label == "Diving"}) == 3
    assert not [c for c in validation if c.label == "Biking"]  # too few groups to spare one
    assert {c.label for c in validation} == {"Diving", "B", "F"}
    assert not {"B", "F"} & {c.label for c in train}


def test_a_single_other_class_is_held_out_by_group() -> None:
    everything = tuple(clips("Diving", 18) + clips("nothing", 18))
    train, validation = hold_out(everything, ("Diving",), 0.15)
    assert [len({c.group for c in validation if c.label == x}) for x in ("Diving", "nothing")] == [
        3,
        3,
    ]
    assert not {(c.label, c.group) for c in train} & {(c.label, c.group) for c in validation}
