"""Finds the faults of a data set, by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from edge.errors import DataError, SourceError
from edge.terminal import track
from edge.video.clip import open_clip
from edge.video.find import find_videos, relative
from edge.video.image_folder import ImageFolder
from edge.video.isolation import Death, map_apart
from edge.video.video_file import VideoFile
from train.data.clips import Clip, Split
from train.data.content import files_of, hash_files
from train.data.dataset import folder_of, is_official, read_dataset
from train.data.timeline import Timeline, timeline_of
from train.data.ucf101 import canonical, clips_folder, leaks, read_split

_UNREADABLE, _TOO_SHORT = "unreadable", "too short"
_RATE, _TURNED = "other frame rate than in training", "turned upright, as the file says"
_MUCH = 1.4  # times the frame rate of training, or a part of it
_UNUSABLE = (_UNREADABLE, _TOO_SHORT)  # kinds of fault for which training leaves a clip out


@dataclass(frozen=True, slots=True)
class Finding:
    """A kind of fault and the names of what has it. harmless: reported, but needs no fix."""

    kind: str
    names: tuple[str, ...]
    harmless: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """A data set and its faults. unusable: the names of clips that training leaves out."""

    split: Split
    findings: list[Finding]
    unusable: frozenset[str]

    def usable(self, clips: Iterable[Clip]) -> list[Clip]:
        """Those of the clips that training does not leave out."""
        return [clip for clip in clips if clip.name not in self.unusable]


def check_dataset(
    root: Path, number: int, history: int, interval_s: float, workers: int
) -> Checked:
    """The data set at `root` and its faults; every clip is decoded.

    history: frames that an input needs before the newest. interval_s: between them. Raises
    DataError if there is no data set.
    """
    official = is_official(root)
    split = read_split(root, number) if official else read_dataset(root, number)
    clips = [*split.train, *split.test]
    examine = partial(judge, history=history, interval_s=interval_s)
    verdicts = list(track(map_apart(examine, clips, workers), "clips", total=len(clips)))
    faults: dict[str, list[str]] = {}
    notes: dict[str, list[str]] = {}
    copies: dict[str, dict[Path, Clip]] = {}
    unusable: set[str] = set()
    for clip, verdict in zip(clips, verdicts, strict=True):
        if isinstance(verdict, Death):
            verdict = Verdict(f"{_UNREADABLE}: {verdict.reason}")
        if verdict.fault:
            kind, _, detail = verdict.fault.partition(": ")
            faults.setdefault(kind, []).append(f"{clip.name} ({detail})")
            if kind in _UNUSABLE:
                unusable.add(clip.name)
        for kind, detail in verdict.notes.items():
            notes.setdefault(kind, []).append(f"{clip.name} ({detail})")
        if verdict.sha256 is not None:
            # a clip that is listed twice is one file
            copies.setdefault(verdict.sha256, {})[clip.path] = clip
    findings = [_missing(split, official), _left_out(folder_of(root), split.left_out)]
    findings += [Finding(kind, tuple(names)) for kind, names in sorted(faults.items())]
    findings += [Finding(kind, tuple(names), harmless=True) for kind, names in notes.items()]
    findings += _twice([list(same.values()) for same in copies.values() if len(same) > 1])
    both = tuple(f"{label} {group}" for label, group in leaks(split))
    findings.append(Finding("group in training and in test", both))
    if official:
        findings += _on_disk(root, clips)
    findings.append(_tested_alone(split))
    there = [finding for finding in findings if finding.names]
    return Checked(split, there, frozenset(unusable))


@dataclass(frozen=True, slots=True)
class Verdict:
    """fault: of a clip as "kind: detail", empty for a good one. sha256: of its content. notes: by
    kind, what is peculiar to it and does no harm."""

    fault: str
    sha256: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


def judge(clip: Clip, history: int, interval_s: float) -> Verdict:
    """Decode a clip as for training. interval_s: between frames of an input."""
    path = clip.path
    try:
        sha256 = hash_files(files_of(path))
        with open_clip(path, quiet=True) as video:
            timeline = timeline_of(video, interval_s)
    except SourceError as error:
        return Verdict(f"{_UNREADABLE}: {str(error).removeprefix(f'{path}: ')}")
    except OSError as error:  # of a folder, one of its pictures
        name = Path(error.filename or path)
        where = "" if name == path else f"{name}: "
        return Verdict(f"{_UNREADABLE}: {where}{error.strerror}")
    fault = ""
    if (reason := timeline.fault(history)) is not None:
        fault = f"{_TOO_SHORT}: {reason}"
    elif video.fault is not None:
        fault = f"broken off: {video.fault}"
    elif video.damaged:
        fault = f"damaged: {video.damaged} of its frames"
    return Verdict(fault, sha256, {} if fault else _notes(video, timeline, interval_s))


def _notes(video: VideoFile | ImageFolder, timeline: Timeline, interval_s: float) -> dict[str, str]:
    """What training makes of a clip that another camera took."""
    notes = {}
    used = 1 / float(np.median(np.diff(timeline.times_s)))
    thinned = video.received / len(timeline.times_s)
    if thinned >= _MUCH:
        notes[_RATE] = f"{thinned * used:.0f} frames a second, of which {used:.0f} are used"
    elif used * interval_s <= 1 / _MUCH:
        notes[_RATE] = f"{used:.0f} frames a second; an input spans more time"
    if isinstance(video, VideoFile) and video.turned:
        notes[_TURNED] = "{} x {} px then".format(*reversed(video.size_hw))
    return notes


def _missing(split: Split, official: bool) -> Finding:
    """Clips that are listed and not there. A part of UCF101 is enough to train on: of it only the
    classes are told."""
    if not official:
        return Finding("listed, not on disk", split.missing)
    there = Counter(clip.label for clip in (*split.train, *split.test))
    missing: dict[str, list[str]] = {}
    for name in split.missing:
        missing.setdefault(canonical(name.partition("/")[0]), []).append(name.rpartition("/")[2])
    names = (
        f"{label} ({len(gone)} of {len(gone) + there[label]}: {gone[0]}{', ...' * (len(gone) > 1)})"
        for label, gone in sorted(missing.items())
    )
    return Finding("class with clips that are listed, not on disk", tuple(names), harmless=True)


def _left_out(root: Path, left_out: Mapping[Path, str]) -> Finding:
    names = (f"{relative(path, root)} ({reason})" for path, reason in left_out.items())
    return Finding("left out", tuple(names))


def _twice(copies: list[list[Clip]]) -> Iterator[Finding]:
    """Clips of the same content: a network can't learn two classes from it, and one that is in
    training and in test tells nothing."""
    in_two: list[str] = []
    in_one: list[str] = []
    for same in copies:
        names = in_two if len({clip.label for clip in same}) > 1 else in_one
        names.append(" = ".join(sorted(clip.name for clip in same)))
    yield Finding("same content in two classes", tuple(in_two))
    yield Finding("same content twice in a class", tuple(in_one))


def _on_disk(root: Path, clips: list[Clip]) -> Iterator[Finding]:
    """Faults of the clips' folder that the lists do not show."""
    folder = clips_folder(root)
    listed = {clip.path for split in (1, 2, 3) for clip in _listed(root, split)}
    listed |= {clip.path for clip in clips}
    found = find_videos(folder)
    unlisted = (relative(path, folder) for path in found.videos if path not in listed)
    yield Finding("on disk, in no list", tuple(unlisted))
    unknown = {path: reason for path, reason in found.left_out.items() if path not in listed}
    yield _left_out(folder, unknown)
    spellings = sorted(
        {part for clip in clips for part in clip.path.parts if part.lower() == "handstandpushups"}
        | {"HandStandPushups" for clip in clips if "v_HandStandPushups" in clip.path.name}
    )
    if len(spellings) > 1:
        yield Finding("spelt in two ways, which is accepted", tuple(spellings), harmless=True)


def _listed(root: Path, number: int) -> list[Clip]:
    try:
        split = read_split(root, number)
    except DataError:  # the lists of other splits need not be there
        return []
    return [*split.train, *split.test]


def _tested_alone(split: Split) -> Finding:
    """Classes that cannot be learnt; their clips test what is shown for other actions."""
    names = {clip.label for clip in split.test} - {clip.label for clip in split.train}
    return Finding("class without a clip to train on", tuple(sorted(names)), harmless=True)
