"""Splits lists of clips, always by group, since the clips of one group are alike."""

from __future__ import annotations

from collections.abc import Sequence

from train.data.clips import Clip


def hold_out(
    clips: Sequence[Clip], classes: tuple[str, ...], fraction: float
) -> tuple[list[Clip], list[Clip]]:
    """Hold out a validation part: (train, validation), the same on every machine.

    A class that is to be learnt gives the nearest whole number of groups to `fraction` of its own,
    spread evenly over its group numbers. Of the other classes every fourth, by name, is held out
    whole: "unknown" is to be judged by actions that the network has never seen. A single other
    class, such as a folder of everything else, gives groups like those that are to be learnt.
    """
    groups: dict[str, list[str]] = {label: [] for label in sorted({c.label for c in clips})}
    for clip in clips:
        groups[clip.label].append(clip.group)
    others = [label for label in groups if label not in classes]
    held: set[tuple[str, str]] = set()
    for label in others[1::4]:
        held |= {(label, group) for group in groups[label]}
    for label in (*classes, *others) if len(others) == 1 else classes:
        own = sorted(set(groups[label]))
        count = min(round(fraction * len(own)), len(own) - 1)
        held |= {(label, own[(2 * i + 1) * len(own) // (2 * count)]) for i in range(count)}
    train = [clip for clip in clips if (clip.label, clip.group) not in held]
    return train, [clip for clip in clips if (clip.label, clip.group) in held]


def folds(
    clips: Sequence[Clip], classes: tuple[str, ...], count: int
) -> list[tuple[list[Clip], list[Clip]]]:
    """`count` partitions (train, test) for cross-validation, the same on every machine.

    The groups of each class take turns, so that every clip of the classes is tested once. Clips of
    other classes are in every training part and in no test part.
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
