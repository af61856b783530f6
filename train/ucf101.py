"""UCF101 on disk: clips, classes, groups and the official split lists.

    ROOT/UCF-101/<Class>/v_<Class>_gNN_cNN.avi
    ROOT/ucfTrainTestlist/{classInd,trainlist0N,testlist0N}.txt

The list and the folder say HandstandPushups where the files say HandStandPushups; both are taken.
A subset of the clips is enough: what is listed and not there is counted, not an error.
"""

from __future__ import annotations

import re
from pathlib import Path

from edge.errors import DataError
from train.clips import Clip, Split

_NAME = re.compile(r"^v_(?P<label>[A-Za-z]+)_g(?P<group>\d{2})_c(?P<clip>\d{2})\.avi$")


def canonical(label: str) -> str:
    return "HandstandPushups" if label.lower() == "handstandpushups" else label


def load_split(root: Path, number: int) -> Split:
    """Read split `number` (1, 2 or 3) of the UCF101 tree at `root`.

    Raises DataError when lists or videos are missing, a line cannot be read, or a group leaks from
    the training list into the test list.
    """
    if number not in (1, 2, 3):
        raise DataError(f"split {number} does not exist; UCF101 has splits 1, 2 and 3")
    lists, videos = root / "ucfTrainTestlist", root / "UCF-101"
    for folder in (lists, videos):
        if not folder.is_dir():
            raise DataError(f"{root}: not a UCF101 tree, {folder.name}/ is missing")
    train, train_missing = _read_list(lists / f"trainlist{number:02}.txt", videos)
    test, test_missing = _read_list(lists / f"testlist{number:02}.txt", videos)
    if not train and not test:
        raise DataError(f"{videos}: holds none of the clips that split {number} lists")
    leaked = {(c.label, c.group) for c in train} & {(c.label, c.group) for c in test}
    if leaked:
        label, group = min(leaked)
        raise DataError(f"{lists}: {label} group {group} is in both lists of split {number}")
    return Split(number, train, test, train_missing + test_missing)


def _read_list(path: Path, videos: Path) -> tuple[tuple[Clip, ...], int]:
    try:
        lines = path.read_text().split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    clips, missing = [], 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name = line.split()[0]
        file = name.rpartition("/")[2]
        match = _NAME.match(file)
        if match is None:
            raise DataError(f"{path}:{number}: {name!r} is not Class/v_Class_gNN_cNN.avi")
        label = canonical(match["label"])
        video = _find(videos, label, file)
        if video is None:
            missing += 1
        else:
            name = str(video.relative_to(videos))
            clips.append(Clip(name, video, label, match["group"]))
    return tuple(clips), missing


def _find(videos: Path, label: str, file: str) -> Path | None:
    spellings = {label}
    if label == "HandstandPushups":
        spellings.add("HandStandPushups")
    for folder in spellings:
        for name in {file} | {re.sub("Hand[sS]tandPushups", s, file) for s in spellings}:
            path = videos / folder / name
            if path.is_file():
                return path
    return None
