"""Which clips to calibrate on, and in which order.

Only names in the network's own list of training clips can be drawn, so that neither the clips that
chose the checkpoint nor those that report its accuracy have any part in the INT8 scales. Video
without labels is anything that the camera has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

import numpy as np

from edge.bundle.network import NetworkSpec
from edge.errors import DataError
from edge.sources.uri import VIDEOS
from train.data.clips import Clip

OTHER = "(other)"  # the label of all training clips that show none of the network's classes
UNLABELLED = "(unlabelled)"

T = TypeVar("T")


def find_unlabelled(path: Path, spec: NetworkSpec) -> list[Clip]:
    """The recording at `path`, or those in the folder, each a clip without a class.

    Raises DataError where there is none, or one has chosen the checkpoint.
    """
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    root = path if path.is_dir() else path.parent
    found = [
        Clip(name := file.relative_to(root).as_posix(), file, UNLABELLED, name)
        for file in files
        if file.is_file() and file.suffix.lower() in VIDEOS
    ]
    if not found:
        raise DataError(f"{path}: holds no recording ({', '.join(VIDEOS)})")
    chosen_by = {Path(name).name for name in spec.validation_clips}
    for footage in found:
        if footage.path.name in chosen_by:
            raise DataError(
                f"{footage.path}: has chosen the checkpoint; calibrate on other recordings"
            )
    return found


def order_clips(spec: NetworkSpec, available: Sequence[Clip], seed: int) -> list[Clip]:
    """The network's training clips, so that any beginning of the list is spread evenly.

    Classes take turns, the clips of all other classes counting as one; within a class the groups
    (source videos) take turns. Both orders are shuffled by the seed.
    """
    rng = np.random.default_rng(seed)
    own = set(spec.train_clips)
    groups: dict[str, dict[tuple[str, str], list[Clip]]] = {}
    for clip in sorted((c for c in available if c.name in own), key=lambda clip: clip.name):
        group = (clip.label, clip.group)
        groups.setdefault(known_label(clip.label, spec), {}).setdefault(group, []).append(clip)
    classes = []
    for label in sorted(groups):
        members = [_shuffled(clips, rng) for clips in groups[label].values()]
        classes.append(_take_turns(_shuffled(members, rng)))
    return _take_turns(_shuffled(classes, rng))


def _shuffled(items: list[T], rng: np.random.Generator) -> list[T]:
    return [items[index] for index in rng.permutation(len(items))]


def _take_turns(queues: list[list[T]]) -> list[T]:
    return [item for turn in zip_longest(*queues) for item in turn if item is not None]


def known_label(label: str, spec: NetworkSpec) -> str:
    """The label, or OTHER where it is none of the network's classes."""
    return label if label in spec.classes else OTHER


def order_unlabelled(footage: Sequence[Clip], seed: int) -> list[Clip]:
    """Shuffled by the seed."""
    rng = np.random.default_rng(seed)
    return _shuffled(sorted(footage, key=lambda one: one.name), rng)
