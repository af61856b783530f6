"""A data set of one's own: a folder for each class, or a CSV.

    ROOT/<Class>/<clip>.mp4                each clip is its own group
    ROOT/<Class>/<group>/.../<clip>.mp4    clips of one take, place or person are a group
    ROOT.csv                               path,label[,group][,part]; part is train or test

A clip is a video, whatever its ending, or a folder of numbered pictures (see edge/video/find.py).
Where nobody says which clips are for testing, every fourth group of each class is.
"""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from edge.errors import DataError
from edge.text import NO_CLASS
from edge.video.find import fault_of, find_videos, left_out_line
from train.data.clips import Clip, Split

logger = logging.getLogger(__name__)

_EVERY = 4


def load_folders(root: Path, split: int) -> Split:
    """Clips in a folder for each class. Raises DataError if there are none."""
    _only_one(root, split)
    found = find_videos(root)
    clips: list[Clip] = []
    left_out: dict[Path, str] = {}
    for path in found.videos:
        parts = path.relative_to(root).parts
        if len(parts) > 1:
            group = parts[1]  # of a clip without a group, the clip itself
            clips.append(Clip(path.relative_to(root).as_posix(), path, parts[0], group))
        elif path.is_dir():
            left_out[path] = "its pictures are in no folder of a clip, <Class>/<clip>/"
        else:
            left_out[path] = "is in no class folder"
    left_out |= found.left_out
    left_out = {folder: "has no clip" for folder in _lost(root, clips, left_out)} | left_out
    if not clips:
        more = f"; {left_out_line(root, left_out)}" if left_out else ""
        raise DataError(
            f"{root}: no data set; it needs UCF-101/ and ucfTrainTestlist/, or a folder for each "
            f"class with videos or folders of pictures{more}"
        )
    train, test = _cut(clips)
    return Split(1, train, test, (), left_out)


def footage_clips(folder: Path) -> list[Clip]:
    """The videos in a folder that show none of the classes; those of a folder in it are one group.
    Raises DataError if there are none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give one with videos")
    found = find_videos(folder)
    if found.left_out:
        logger.warning("%s", left_out_line(folder, found.left_out))
    if not found.videos:
        raise DataError(f"{folder}: has no video; give a folder with videos")
    within = [path.relative_to(folder) for path in found.videos]
    return [
        Clip(f"footage:{name.as_posix()}", path, NO_CLASS, name.parts[0])
        for name, path in zip(within, found.videos, strict=True)
    ]


def _lost(root: Path, clips: list[Clip], left_out: Mapping[Path, str]) -> list[Path]:
    """The folders of classes that have no clip: they are empty, or all in them was left out. One
    that holds only other files is none of a class."""
    classes = {clip.label for clip in clips}
    folders = [f for f in sorted(root.iterdir()) if f.is_dir() and f.name[0] != "."]
    lost = {path.relative_to(root).parts[0] for path in left_out if path != root}
    return [
        folder
        for folder in folders
        if folder.name not in classes and folder not in left_out and os.access(folder, os.R_OK)
        if folder.name in lost or not any(folder.iterdir())
    ]


def load_csv(path: Path, split: int) -> Split:
    """The clips listed in a CSV, with paths relative to it. Raises DataError with the line."""
    _only_one(path, split)
    clips: list[Clip] = []
    missing: list[str] = []
    left_out: dict[Path, str] = {}
    seen: set[str] = set()
    in_part: dict[str, list[Clip]] = {"": [], "train": [], "test": []}
    for number, row in _rows(path):
        given, label = (row.get("path") or "").strip(), (row.get("label") or "").strip()
        part = (row.get("part") or "").strip()
        if not given or not label or part not in ("", "train", "test") or None in row:
            raise DataError(
                f"{path}:{number}: needs path,label[,group][,part]; part is train, test or empty"
            )
        place = os.path.normpath(given)  # ./a.mp4 is a.mp4
        if place in seen:
            raise DataError(f"{path}:{number}: {given} is listed twice")
        seen.add(place)
        clip = Clip(given, path.parent / place, label, (row.get("group") or "").strip() or given)
        if not os.path.lexists(clip.path):
            missing.append(given)
        elif (fault := fault_of(clip.path)) is not None:
            left_out[clip.path] = fault
        else:
            clips.append(clip)
            in_part[part].append(clip)
    if not clips:
        more = f"; {left_out_line(path.parent, left_out)}" if left_out else ""
        raise DataError(f"{path}: none of its clips is on disk{more}")
    train, test = _cut(in_part[""])
    train, test = train + tuple(in_part["train"]), test + tuple(in_part["test"])
    _refuse_leaks(path, train, test)
    return Split(1, train, test, tuple(missing), left_out)


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            names = set(reader.fieldnames or ())
            if not {"path", "label"} <= names:
                if any(";" in name for name in names):
                    raise DataError(f"{path}: its separator is ;, it must be a comma")
                raise DataError(f"{path}: its first line must name the columns path and label")
            return [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a CSV ({error})") from None


def _cut(clips: list[Clip]) -> tuple[tuple[Clip, ...], tuple[Clip, ...]]:
    """(train, test): every fourth group of a class is tested, from the second on, so that two
    groups are enough."""
    tested: set[tuple[str, str]] = set()
    for label in {clip.label for clip in clips}:
        groups = sorted({clip.group for clip in clips if clip.label == label})
        tested |= {(label, group) for group in groups[1::_EVERY]}
    train = tuple(clip for clip in clips if (clip.label, clip.group) not in tested)
    return train, tuple(clip for clip in clips if (clip.label, clip.group) in tested)


def _refuse_leaks(path: Path, train: tuple[Clip, ...], test: tuple[Clip, ...]) -> None:
    leaked = {(c.label, c.group) for c in train} & {(c.label, c.group) for c in test}
    if leaked:
        label, group = min(leaked)
        raise DataError(f"{path}: group {group} of {label} is in both training and test")


def _only_one(path: Path, split: int) -> None:
    if split != 1:
        raise DataError(f"{path}: split {split} does not exist; only UCF101 has splits 1 to 3")
