"""The takes of own actions: whether there are enough, and how well held-out ones are recognised."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.decision.fusion import softmax
from edge.errors import DataError
from edge.text import BACKGROUND, counted
from train.data.cache import CachedClip
from train.data.clips import Clip, Split
from train.evaluation.metrics import Truth, confusion, right_by_class
from train.streams import FUSED

FEWEST_TAKES = 5  # of each action, and of the background
_Z = 1.96  # standard deviations of a 95 % interval

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Estimate:
    """How many takes are recognised, of `takes` that were left out in turn. by_class: as "9 of 10".
    low, high: bounds of the share, 0 to 1 (Wilson's 95 % interval).
    """

    right: int
    takes: int
    by_class: dict[str, str]

    @property
    def interval(self) -> tuple[float, float]:
        share, n = self.right / self.takes, self.takes
        middle = share + _Z**2 / (2 * n)
        half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
        return (middle - half) / (1 + _Z**2 / n), (middle + half) / (1 + _Z**2 / n)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.right} of {self.takes} takes ({low:.0%} to {high:.0%})"

    def to_json(self) -> dict[str, Any]:
        low, high = self.interval
        return {
            "top1": round(self.right / self.takes, 4),
            "interval": [round(low, 4), round(high, 4)],
            "takes": self.takes,
            "right_by_class": self.by_class,
        }


def check_takes(folder: Path, split: Split, classes: Sequence[str]) -> None:
    """Raises DataError if an action or the background has too few takes, with the remedy."""
    clips = (*split.train, *split.test)
    counts = {label: _takes(clips, {label}) for label in classes}
    few = {label: count for label, count in counts.items() if count < FEWEST_TAKES}
    if few:
        have = ", ".join(f"{label} has {counted(count, 'take')}" for label, count in few.items())
        more = FEWEST_TAKES - min(few.values())
        raise DataError(
            f"{folder}: {have}; {FEWEST_TAKES} are needed to learn an action and to judge it. Put "
            f"more clips into its folder, or run: twostream actions record {folder} "
            f"{' '.join(map(repr, few))} --source CAMERA --takes {more}"
        )
    others = _takes(clips, {clip.label for clip in clips} - set(classes))
    if others < FEWEST_TAKES:
        raise DataError(
            f"{folder}: {counted(others, 'take')} of what is none of the actions; {FEWEST_TAKES} "
            "are needed to learn when to say unknown. Put clips of it into "
            f"{folder / BACKGROUND}, or run: twostream actions record {folder} {BACKGROUND} "
            f"--source CAMERA --takes {FEWEST_TAKES - others}"
        )


def _takes(clips: Sequence[Clip], labels: set[str]) -> int:
    return len({(clip.label, clip.group) for clip in clips if clip.label in labels})


def estimate(
    logits: Mapping[str, Mapping[str, Logits]], clips: Sequence[Clip], classes: tuple[str, ...]
) -> dict[str, Estimate]:
    """How many clips of the classes are recognised by networks that were trained without them.

    logits: by stream and clip, (samples, C). Returns one for each stream, and "fused" for the plain
    mean of their scores: a fitted one would have seen these clips.
    """
    own = [clip for clip in clips if clip.label in classes]
    truth: Truth = np.array([classes.index(clip.label) for clip in own], np.int64)
    scores = {
        stream: np.stack([softmax(by_clip[clip.name], 1.0).mean(axis=0) for clip in own])
        for stream, by_clip in logits.items()
    }
    scores[FUSED] = np.stack(list(scores.values())).mean(axis=0)
    found = {}
    for name, values in scores.items():
        counts = confusion(values, truth)
        found[name] = Estimate(int(counts.trace()), len(own), right_by_class(counts, classes))
    return found


def streams_that_tell(estimates: Mapping[str, Estimate], classes: Sequence[str]) -> list[str]:
    """The streams that recognise left-out takes better than guessing; all if only together they do.

    One that guesses adds noise, and INT8 changes its guesses. Raises DataError if even all streams
    together may as well guess.
    """
    chance = 1 / len(classes)
    telling = [name for name, each in estimates.items() if each.interval[0] > chance]
    if not telling:
        fused = estimates[FUSED]
        listed = ", ".join(f"{name} {count}" for name, count in fused.by_class.items())
        raise DataError(
            f"left-out takes are not recognised better than by guessing ({chance:.0%}): {fused}; "
            f"{listed}. Record more takes, or actions that differ more"
        )
    alone = [name for name in telling if name != FUSED]
    return alone or [name for name in estimates if name != FUSED]


def share_out(
    clips: Sequence[CachedClip], classes: Sequence[str]
) -> tuple[list[CachedClip], list[CachedClip]]:
    """Two thirds of the takes of each class and of all others together, and the last third."""
    last: set[tuple[str, str]] = set()
    for labels in (*({label} for label in classes), {c.clip.label for c in clips} - set(classes)):
        takes = {(c.clip.label, c.clip.group) for c in clips if c.clip.label in labels}
        last |= set(sorted(takes)[1::3])
    first = [clip for clip in clips if (clip.clip.label, clip.clip.group) not in last]
    return first, [clip for clip in clips if (clip.clip.label, clip.clip.group) in last]
