"""Splits lists of clips by group, since the clips of one group are cut from one recording."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from edge.errors import DataError
from train.data.clips import Clip


def hold_out(
    clips: Sequence[Clip], classes: tuple[str, ...], fraction: float
) -> tuple[list[Clip], list[Clip]]:
    """Hold out validation clips: (train, validation), the same on every machine.

    classes: those to be learnt. Of each, round(fraction * groups) groups are held out, spread
    evenly over its groups. Of the other classes every fourth, by name, is held out completely, so
    that "unknown" is validated on actions that the network has not seen. A single other class, such
    as a folder of all other actions, is split by group like the classes to be learnt.
    """
    groups: dict[str, list[str]] = {label: [] for label in sorted({c.label for c in clips})}
    for clip in clips:
        groups[clip.label].append(clip.group)
    other_labels = [label for label in groups if label not in classes]
    held_out: set[tuple[str, str]] = set()
    for label in other_labels[1::4]:
        held_out |= {(label, group) for group in groups[label]}
    for label in (*classes, *other_labels) if len(other_labels) == 1 else classes:
        names = sorted(set(groups[label]))
        count = min(round(fraction * len(names)), len(names) - 1)
        held_out |= {(label, names[(2 * i + 1) * len(names) // (2 * count)]) for i in range(count)}
    train = [clip for clip in clips if (clip.label, clip.group) not in held_out]
    return train, [clip for clip in clips if (clip.label, clip.group) in held_out]


def footage_to_train(clips: Sequence[Clip]) -> list[Clip]:
    """Half of the groups of footage, rounded down, the same on every machine. The other half is for
    the threshold of `unknown`. Raises DataError if there are not two groups."""

    def order(group: str) -> str:
        return hashlib.sha256(group.encode("utf-8", "surrogateescape")).hexdigest()

    groups = sorted({clip.group for clip in clips}, key=order)
    if len(groups) < 2:
        raise DataError(
            f"--negatives: {', '.join(groups) or 'nothing'} is all that it has, and half of it is "
            "trained on; give two videos or more"
        )
    chosen = set(groups[: len(groups) // 2 * 2 : 2])
    return [clip for clip in clips if clip.group in chosen]


def folds(
    clips: Sequence[Clip], classes: tuple[str, ...], count: int
) -> list[tuple[list[Clip], list[Clip]]]:
    """`count` partitions (train, test) for cross-validation, the same on every machine.

    The groups of each class are dealt out to the folds in turn, so that every clip of the classes
    is in one test part. Clips of other classes are in every training part and in no test part.
    """
    fold_of: dict[tuple[str, str], int] = {}
    for label in classes:
        groups = sorted({clip.group for clip in clips if clip.label == label})
        fold_of |= {(label, group): index % count for index, group in enumerate(groups)}
    partitions = []
    for fold in range(count):
        test = [clip for clip in clips if fold_of.get((clip.label, clip.group)) == fold]
        train = [clip for clip in clips if fold_of.get((clip.label, clip.group)) != fold]
        partitions.append((train, test))
    return partitions
