"""Whether data can become a bundle: what is missing is said, with numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import tiny
from tests.support.av_clips import write_video
from tests.support.command import twostream
from train.data.clips import Clip
from train.data.enough import missing_for_bundle, unjudged_classes
from train.data.folders import load_folders
from train.data.splits import hold_out

CLASSES = ("jump", "wave")


def lacks(root: Path, groups: dict[str, int], unknown: bool = True) -> list[str]:
    """Of a folder of classes with so many clips, each its own group, as training divides them."""
    for label, count in groups.items():
        (root / label).mkdir(parents=True)
        for number in range(count):
            (root / label / f"{number}.mp4").write_bytes(bytes(range(20)))
    split = load_folders(root, 1)
    train, validation = hold_out(split.train, CLASSES, 0.15)
    return missing_for_bundle(train, validation, split.test, CLASSES, unknown)


@pytest.mark.parametrize("count", [5, 6, 9, 30])
def test_five_groups_of_each_are_enough(count: int, tmp_path: Path) -> None:
    assert lacks(tmp_path, {"jump": count, "wave": count, "other": count}) == []


@pytest.mark.parametrize("count", [2, 3, 4])
def test_too_few_groups_are_counted(count: int, tmp_path: Path) -> None:
    assert lacks(tmp_path, {"jump": count, "wave": count, "other": count}) == [
        f"no validation clip is of the classes: none of them has more than {count} groups of "
        "clips, 5 are enough",
        f"no validation clip is of other actions, of which there are {count} groups; put 5 or more "
        "into one folder, or add more classes; or always show the best class: twostream export "
        "--no-unknown",
    ]


@pytest.mark.parametrize("unknown", [True, False])
def test_where_clips_are_enough_but_none_is_held_out_the_option_is_named(unknown: bool) -> None:
    clips = [
        Clip(f"{label}/{n}", Path(), label, str(n))
        for label in (*CLASSES, "other")
        for n in range(6)
    ]
    train, validation = hold_out(clips, CLASSES, 0.0)
    lacks = missing_for_bundle(train, validation, clips, CLASSES, unknown)
    option = "train with --set validation.fraction=0.15, which holds some out"
    assert lacks[0] == f"no validation clip is of the classes; {option}"
    assert [option in lack for lack in lacks] == [True] * (1 + unknown)


def test_without_other_actions_there_is_no_unknown(tmp_path: Path) -> None:
    (lack,) = lacks(tmp_path, {"jump": 8, "wave": 8})
    assert lack.startswith("there is no clip of other actions, which teach when to say unknown")
    assert lack.endswith("always show the best class: twostream export --no-unknown")


def test_background_that_is_taken_for_an_action_is_told() -> None:
    clips = [Clip(f"{label}/1", Path(), label, "1") for label in ("jump", "background")]
    (lack,) = missing_for_bundle(clips, clips, clips, ("background", "jump"))
    assert lack.startswith(
        "background would be learnt as an action; name the others with --classes"
    )
    assert missing_for_bundle(clips, clips, clips, ("jump",)) == []
    assert missing_for_bundle(clips, clips, clips, ("background", "jump"), unknown=False) == []


@pytest.mark.parametrize("others", [0, 1, 8])
def test_without_unknown_the_classes_alone_are_enough(others: int, tmp_path: Path) -> None:
    groups = {"jump": 8, "wave": 8} | ({"other": others} if others else {})
    assert lacks(tmp_path / "enough", groups, unknown=False) == []
    (lack,) = lacks(tmp_path / "few", groups | {"jump": 3, "wave": 3}, unknown=False)
    assert lack.startswith("no validation clip is of the classes")


def test_a_class_that_lost_its_clips_is_named() -> None:
    clips = [Clip(f"{label}/{n}", Path(label), label, str(n)) for label in "ab" for n in range(3)]
    (first, *_) = missing_for_bundle(clips, clips, clips, ("a", "swim"))
    assert first == "swim has no clip to train on; add some, or leave it out of --classes"


@pytest.mark.parametrize(
    ("wave", "unjudged"), [(1, ["validation", "test"]), (3, ["validation"]), (5, [])]
)
def test_a_class_that_no_clip_judges_is_named(wave: int, unjudged: list[str]) -> None:
    clips = [Clip(f"jump/{n}", Path(), "jump", str(n)) for n in range(6)]
    few = [Clip(f"wave/{n}", Path(), "wave", str(n)) for n in range(wave)]
    train, test = [*clips[:5], *few[:1], *few[2:]], [*clips[5:], *few[1:2]]
    train, validation = hold_out(train, CLASSES, 0.15)
    groups = f"{wave} group" + "s" * (wave > 1)
    assert unjudged_classes(train, validation, test, CLASSES) == [
        f"no {part} clip says how well wave ({groups}) will be recognised; 5 groups of clips are "
        "enough"
        for part in unjudged
    ]
    assert unjudged_classes(train, validation, test, ("jump",)) == []


def test_many_classes_that_no_clip_judges_are_counted() -> None:
    clips = [Clip(f"{label}/1", Path(), label, "1") for label in "abcdefgh"]
    (line,) = unjudged_classes(clips, clips[:1], clips, tuple("abcdefgh"))
    assert "f (1 group) and 2 more will be recognised" in line


@pytest.mark.slow
def test_the_check_and_training_say_the_same(tmp_path: Path) -> None:
    levels = iter(range(16, 100))
    for label in CLASSES:
        for number in range(3):
            write_video(tmp_path / "clips" / label / f"{number}.mp4", first_level=next(levels))
    check = twostream("data", "check", tmp_path / "clips")
    assert check.returncode == 0, check.stdout
    told = [line for line in check.stdout.splitlines() if line.startswith("no bundle can be made")]
    assert len(told) == 2
    out = ["--out", tmp_path / "work", "--cache", tmp_path / "cache"]
    train = twostream("train", "spatial", tmp_path / "clips", *out, *tiny.options())
    assert train.returncode == 0, train.stderr
    assert train.stderr.count("warning: no bundle can be made of these clips") == len(told)
    for line in told:
        assert line.partition(": ")[2] in train.stderr
