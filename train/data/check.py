"""Finds the faults of a data set, by kind."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edge.errors import DataError, SourceError
from edge.sources.uri import VIDEOS
from edge.terminal import track
from edge.video.video_file import VideoFile
from train.data.clips import Clip, Split
from train.data.dataset import open_dataset
from train.data.decode import read_frames
from train.data.timeline import timeline_of
from train.data.ucf101 import LISTS, clips_folder, leaks, read_split

FEWEST_GROUPS = 2  # of a class: one to train on, one to validate on


@dataclass(frozen=True, slots=True)
class Finding:
    """A kind of fault and the names of what has it. harmless: reported, but needs no fix."""

    kind: str
    names: tuple[str, ...]
    harmless: bool = False


def check_dataset(
    root: Path, number: int, history: int, interval_s: float, workers: int
) -> tuple[Split, list[Finding]]:
    """The data set at `root` and its faults; every clip is decoded.

    history: frames that an input needs before the newest. interval_s: between them. Raises
    DataError if there is no data set.
    """
    official = root.is_dir() and (root / LISTS).is_dir()
    split = read_split(root, number) if official else open_dataset(root, number)
    clips = [*split.train, *split.test]
    with ProcessPoolExecutor(workers) as pool:
        judged = pool.map(
            partial(judge, history=history, interval_s=interval_s), (clip.path for clip in clips)
        )
        verdicts = list(track(judged, "clips", total=len(clips)))
    faults: dict[str, list[str]] = {}
    for clip, verdict in zip(clips, verdicts, strict=True):
        if verdict:
            kind, _, detail = verdict.partition(": ")
            faults.setdefault(kind, []).append(f"{clip.name} ({detail})")
    findings = [Finding("listed, not on disk", split.missing)]
    findings += [Finding(kind, tuple(names)) for kind, names in sorted(faults.items())]
    both = tuple(f"{label} {group}" for label, group in leaks(split))
    findings.append(Finding("group in training and in test", both))
    if official:
        findings += _on_disk(root, clips)
    findings.append(Finding("class with too few groups to train on", _small_classes(split)))
    return split, [finding for finding in findings if finding.names]


def judge(path: Path, history: int, interval_s: float) -> str:
    """The fault of a clip as "kind: detail"; empty for a good one. interval_s: between frames of an
    input."""
    broken = None
    try:
        if path.is_dir():
            timeline = timeline_of(read_frames(path), interval_s)
        else:
            with VideoFile(path, quiet=True) as video:
                timeline = timeline_of(video, interval_s)
            broken = video.fault
    except (DataError, SourceError) as error:
        return f"unreadable: {str(error).removeprefix(f'{path}: ')}"
    except OSError as error:
        return f"unreadable: {error.strerror}"
    if (reason := timeline.fault(history)) is not None:
        return f"too short: {reason}"
    return f"broken off: {broken}" if broken else ""


def _on_disk(root: Path, clips: list[Clip]) -> Iterator[Finding]:
    """Faults of the clips' folder that the lists do not show."""
    folder = clips_folder(root)
    listed = {clip.path for split in (1, 2, 3) for clip in _listed(root, split)}
    listed |= {clip.path for clip in clips}
    there = [path for path in folder.rglob("*") if path.suffix.lower() in VIDEOS]
    unlisted = (str(path.relative_to(folder)) for path in there if path not in listed)
    yield Finding("on disk, in no list", tuple(sorted(unlisted)))
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


def _small_classes(split: Split) -> tuple[str, ...]:
    groups: dict[str, set[str]] = {clip.label: set() for clip in (*split.train, *split.test)}
    for clip in split.train:
        groups[clip.label].add(clip.group)
    return tuple(
        f"{label} ({len(own)} in training)"
        for label, own in sorted(groups.items())
        if len(own) < FEWEST_GROUPS
    )
