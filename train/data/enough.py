"""Can this data become a bundle? `data check`, `train` and `export` ask it of the same function."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from edge.text import BACKGROUND, counted
from train.data.clips import Clip

# Of so many, one is for testing (see folders.py), and one of the others is held out (see splits.py)
_ENOUGH_GROUPS = 5
_TO_DO = {  # where there are enough groups
    "validation": "; train with --set validation.fraction=0.15, which holds some out",
    "test": "; add some of those that are listed for testing",
}
_LISTED = 5  # classes, by name; others are counted
_REMEDY = "; or always show the best class: twostream export --no-unknown"


def missing_for_bundle(
    train: Sequence[Clip],
    validation: Sequence[Clip],
    test: Sequence[Clip],
    classes: Collection[str],
    unknown: bool = True,
) -> list[str]:
    """What a bundle of these classes lacks, with numbers and what to do; empty if nothing.

    The threshold of `unknown` is fitted on validation clips of the classes and of other actions,
    and test clips of both say how good it is. unknown: False asks for a bundle that always shows
    its best class, and needs no other actions.
    """
    groups = _groups(train, validation, test)
    others = groups.keys() - set(classes)
    lacks = [
        f"{label} has no clip to train on; add some, or leave it out of --classes"
        for label in sorted(set(classes) - {clip.label for clip in train})
    ]
    if unknown and BACKGROUND in classes and not others:
        lacks.append(
            f"{BACKGROUND} would be learnt as an action; name the others with --classes, so that "
            "it teaches when to say unknown"
        )
    elif unknown and not others:
        lacks.append(
            "there is no clip of other actions, which teach when to say unknown; add a folder of "
            f"such clips, or name with --classes only a part of the classes{_REMEDY}"
        )
    for name, part in (("validation", validation), ("test", test)):
        if not any(clip.label in classes for clip in part):
            most = max((len(groups[label]) for label in classes if label in groups), default=0)
            few = (
                f": none of them has more than {counted(most, 'group')} of clips, {_ENOUGH_GROUPS} "
                "are enough"
            )
            lacks.append(
                f"no {name} clip is of the classes{_TO_DO[name] if most >= _ENOUGH_GROUPS else few}"
            )
        if unknown and others and all(clip.label in classes for clip in part):
            count = sum(len(groups[label]) for label in others)
            more = f"; put {_ENOUGH_GROUPS} or more into one folder, or add more classes"
            lacks.append(
                f"no {name} clip is of other actions, of which there "
                f"{'is' if count == 1 else 'are'} {counted(count, 'group')}"
                f"{_TO_DO[name] if count >= _ENOUGH_GROUPS * len(others) else more}{_REMEDY}"
            )
    return lacks


def unjudged_classes(
    train: Sequence[Clip],
    validation: Sequence[Clip],
    test: Sequence[Clip],
    classes: Collection[str],
) -> list[str]:
    """The classes that a bundle would have although no clip says how well they are recognised, in
    one line for each part; empty if there are none. A part without a clip of any class is told by
    `missing_for_bundle`."""
    groups = _groups(train, validation, test)
    lines = []
    for name, part in (("validation", validation), ("test", test)):
        judged = {clip.label for clip in part} & set(classes)
        without = sorted((set(classes) & groups.keys()) - judged)
        if judged and without:
            listed = ", ".join(
                f"{label} ({counted(len(groups[label]), 'group')})" for label in without[:_LISTED]
            )
            more = f" and {len(without) - _LISTED} more" if len(without) > _LISTED else ""
            lines.append(
                f"no {name} clip says how well {listed}{more} will be recognised; "
                f"{_ENOUGH_GROUPS} groups of clips are enough"
            )
    return lines


def _groups(*parts: Sequence[Clip]) -> dict[str, set[str]]:
    """The groups of each class."""
    groups: dict[str, set[str]] = {}
    for part in parts:
        for clip in part:
            groups.setdefault(clip.label, set()).add(clip.group)
    return groups
