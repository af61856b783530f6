"""A data set of one's own: a folder for each class, or a CSV.

    ROOT/<Class>/<clip>.mp4              each clip is its own group
    ROOT/<Class>/<group>/<clip>.mp4      clips of one take, place or person are a group
    ROOT.csv                             path,label[,group][,part]; part is train or test

Where nobody says which clips are for testing, every fourth group of each class is.
"""

from __future__ import annotations

import csv
from pathlib import Path

from edge.errors import DataError
from edge.sources.uri import VIDEOS
from train.data.clips import Clip, Split

_EVERY = 4


def load_folders(root: Path, split: int) -> Split:
    """Clips in a folder for each class. Raises DataError if there are none."""
    _only_one(root, split)
    clips = []
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if path.suffix.lower() not in VIDEOS or not path.is_file() or len(parts) not in (2, 3):
            continue
        group = parts[1] if len(parts) == 3 else path.name
        clips.append(Clip(path.relative_to(root).as_posix(), path, parts[0], group))
    if not clips:
        raise DataError(
            f"{root}: no data set; it needs UCF-101/ and ucfTrainTestlist/, or a folder for each "
            f"class with videos ({', '.join(VIDEOS)})"
        )
    train, test = _cut(clips)
    return Split(1, train, test, ())


def load_csv(path: Path, split: int) -> Split:
    """The clips listed in a CSV, with paths relative to it. Raises DataError with the line."""
    _only_one(path, split)
    clips: list[Clip] = []
    missing: list[str] = []
    parts: dict[str, str] = {}
    for number, row in _rows(path):
        given, label = (row.get("path") or "").strip(), (row.get("label") or "").strip()
        part = (row.get("part") or "").strip()
        if not given or not label or part not in ("", "train", "test") or None in row:
            raise DataError(
                f"{path}:{number}: needs path,label[,group][,part]; part is train, test or empty"
            )
        if given in parts:
            raise DataError(f"{path}:{number}: {given} is listed twice")
        parts[given] = part
        clip = Clip(given, path.parent / given, label, (row.get("group") or "").strip() or given)
        if clip.path.exists():
            clips.append(clip)
        else:
            missing.append(given)
    if not clips:
        raise DataError(f"{path}: none of its clips is on disk")
    train, test = _cut([clip for clip in clips if not parts[clip.name]])
    train += tuple(clip for clip in clips if parts[clip.name] == "train")
    test += tuple(clip for clip in clips if parts[clip.name] == "test")
    _refuse_leaks(path, train, test)
    return Split(1, train, test, tuple(missing))


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            if not {"path", "label"} <= set(reader.fieldnames or ()):
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
