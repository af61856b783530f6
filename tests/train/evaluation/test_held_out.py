"""Validation clips are those that every network held out, by what is in them."""

from __future__ import annotations

from pathlib import Path

from train.data.clips import Clip
from train.evaluation.held_out import (
    ClipLists,
    Seen,
    differing_part,
    hash_contents,
    validation_parts,
)

CLIPS = [Clip(name, Path(name), "Wave", name) for name in ("a.mp4", "b.mp4", "c.mp4", "d.mp4")]
CONTENTS = {"a.mp4": "A", "b.mp4": "B", "c.mp4": "C", "d.mp4": "D"}


def seen(trained: str, validation: str, by_content: bool = True) -> Seen:
    return Seen(frozenset(trained.split()), frozenset(validation.split()), by_content)


def lists(trained: str, validation: str, contents: dict[str, str]) -> ClipLists:
    parts = {"training": tuple(trained.split()), "validation": tuple(validation.split())}
    return ClipLists(parts, contents)


def names(parts: tuple[list[Clip], ...]) -> list[str]:
    return ["".join(clip.name[0] for clip in part) for part in parts]


def test_a_clip_that_one_network_trained_on_is_no_validation_clip() -> None:
    first, second = seen("A", "B C D"), seen("A B", "C D")
    assert names(validation_parts(CLIPS, [first, second], CONTENTS)) == ["a", "cd", "b"]
    assert names(validation_parts(CLIPS, [second, first], CONTENTS)) == ["a", "cd", "b"]
    assert names(validation_parts(CLIPS, [first], CONTENTS)) == ["a", "bcd", ""]


def test_a_copy_of_a_training_clip_is_no_validation_clip() -> None:
    network = seen("A", "B C D")
    copied = CONTENTS | {"d.mp4": "A"}
    assert not network.held_out(CLIPS[3], copied)
    assert network.trained_on(CLIPS[3], copied)
    both = seen("A", "A B")  # the same clip was in both lists of the training
    assert not both.held_out(CLIPS[0], CONTENTS)


def test_renamed_clips_are_the_same_and_changed_ones_are_not() -> None:
    network = seen("a.mp4 A", "b.mp4 B")
    swapped = CONTENTS | {"a.mp4": "B", "b.mp4": "A"}
    assert network.held_out(CLIPS[0], swapped)
    assert network.trained_on(CLIPS[1], swapped)
    assert not network.held_out(CLIPS[1], CONTENTS | {"b.mp4": "E"})


def test_a_checkpoint_without_hashes_knows_names() -> None:
    old = seen("a.mp4", "b.mp4 c.mp4 d.mp4", by_content=False)
    new = seen("A", "B C D")
    assert names(validation_parts(CLIPS, [old, new], CONTENTS)) == ["a", "bcd", ""]


def test_contents_are_of_files_that_can_be_read(tmp_path: Path) -> None:
    clips = [Clip(name, tmp_path / name, "Wave", name) for name in ("a.mp4", "b.mp4", "c.mp4")]
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"the same")
    found = hash_contents(clips, tmp_path / "cache")
    assert list(found) == ["a.mp4", "b.mp4"]
    assert found["a.mp4"] == found["b.mp4"]


def test_networks_that_saw_the_same_clips_under_other_names_are_alike() -> None:
    first = lists("a b", "c", {"a": "A", "b": "B", "c": "C"})
    renamed = lists("y x", "z", {"x": "A", "y": "B", "z": "C"})
    assert differing_part(first, renamed) is None
    other = lists("a b", "c", {"a": "A", "b": "B", "c": "D"})  # of the same name
    assert differing_part(first, other) == "validation"
    assert differing_part(first, lists("a", "c", {"a": "A", "c": "C"})) == "training"


def test_lists_without_hashes_are_compared_by_name() -> None:
    new, old = lists("a b", "c", {"a": "A", "b": "B", "c": "C"}), lists("b a", "c", {})
    assert differing_part(new, old) is None
    assert differing_part(old, lists("b a", "d", {})) == "validation"
