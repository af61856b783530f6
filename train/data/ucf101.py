"""UCF101 on disk: clips, classes, groups and the official split lists.

    ROOT/UCF-101/<Class>/v_<Class>_gNN_cNN.avi     or the frames that Feichtenhofer published:
    ROOT/jpegs_256/v_<Class>_gNN_cNN/frame000001.jpg
    ROOT/ucfTrainTestlist/{classInd,trainlist0N,testlist0N}.txt

The lists and folders say HandstandPushups where the file names say HandStandPushups; both are read.
Listed clips that are missing are no error: they are counted.
"""

from __future__ import annotations

import re
from pathlib import Path

from edge.errors import DataError
from train.data.clips import Clip, Split

LISTS, VIDEOS, FRAMES = "ucfTrainTestlist", "UCF-101", "jpegs_256"

_NAME = re.compile(r"^v_(?P<label>[A-Za-z]+)_g(?P<group>\d{2})_c(?P<clip>\d{2})\.avi$")


def canonical(label: str) -> str:
    """The class name, in its usual spelling."""
    return "HandstandPushups" if label.lower() == "handstandpushups" else label


def load_split(root: Path, number: int) -> Split:
    """Split `number` (1, 2 or 3) of the UCF101 tree at `root`.

    Raises DataError if a list is missing or invalid, none of its clips is there, or a group of a
    class is in both the training and the test list.
    """
    split = read_split(root, number)
    leaked = leaks(split)
    if leaked:
        label, group = leaked[0]
        raise DataError(f"{root / LISTS}: {label} group {group} is in both lists of split {number}")
    if not split.train and not split.test:
        raise DataError(f"{clips_folder(root)}: has none of the clips listed in split {number}")
    return split


def read_split(root: Path, number: int) -> Split:
    """Like `load_split`, without the check for groups in both lists and for missing clips."""
    if number not in (1, 2, 3):
        raise DataError(f"split {number} does not exist; UCF101 has splits 1, 2 and 3")
    if not (root / LISTS).is_dir():
        raise DataError(f"{root}: not a UCF101 tree, {LISTS}/ is missing")
    folder = clips_folder(root)
    train, train_missing = _read_list(root / LISTS / f"trainlist{number:02}.txt", folder)
    test, test_missing = _read_list(root / LISTS / f"testlist{number:02}.txt", folder)
    return Split(number, train, test, train_missing + test_missing)


def clips_folder(root: Path) -> Path:
    """The folder of the clips: the videos, or else their frames."""
    for name in (VIDEOS, FRAMES):
        if (root / name).is_dir():
            return root / name
    raise DataError(f"{root}: not a UCF101 tree, {VIDEOS}/ is missing")


def leaks(split: Split) -> list[tuple[str, str]]:
    """(label, group) of the groups that are in both parts."""
    train, test = (
        {(clip.label, clip.group) for clip in part} for part in (split.train, split.test)
    )
    return sorted(train & test)


def _read_list(path: Path, folder: Path) -> tuple[tuple[Clip, ...], tuple[str, ...]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise DataError(f"{path}: cannot be read ({reason})") from None
    clips: list[Clip] = []
    missing: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name = line.split()[0]
        file = name.rpartition("/")[2]
        match = _NAME.match(file)
        if match is None:
            raise DataError(f"{path}:{number}: {name!r} is not Class/v_Class_gNN_cNN.avi")
        label = canonical(match["label"])
        clip = _find(folder, label, file)
        if clip is None:
            missing.append(name)
        else:
            clips.append(Clip(str(clip.relative_to(folder)), clip, label, match["group"]))
    return tuple(clips), tuple(missing)


def _find(folder: Path, label: str, file: str) -> Path | None:
    """The video in the folder of its class, or the folder of its frames; None if it is missing."""
    spellings = {label}
    if label == "HandstandPushups":
        spellings.add("HandStandPushups")
    names = {file} | {re.sub("Hand[sS]tandPushups", s, file) for s in spellings}
    for name in sorted(names):
        if folder.name == FRAMES:
            if (folder / name.removesuffix(".avi")).is_dir():
                return folder / name.removesuffix(".avi")
            continue
        for spelling in sorted(spellings):
            if (folder / spelling / name).is_file():
                return folder / spelling / name
    return None
