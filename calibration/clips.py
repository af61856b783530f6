"""Chooses the clips for calibration, and their order.

Only the network's training clips can be drawn, so that neither validation nor test clips influence
the INT8 scales. Unlabelled video may be anything that a camera has recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

import numpy as np

from edge.bundle.network import NetworkSpec
from edge.errors import DataError
from edge.video.find import find_videos, left_out_line, relative
from train.data.clips import Clip

logger = logging.getLogger(__name__)

OTHER = "(other)"  # the label of all training clips that show none of the network's classes
UNLABELLED = "(unlabelled)"

T = TypeVar("T")


def find_unlabelled(path: Path, spec: NetworkSpec) -> list[Clip]:
    """The video at `path`, or those in the folder, each a clip without a class; what is left out
    is logged.

    Raises DataError if there is none, or one is a validation clip of the network.
    """
    found = find_videos(path)
    line = left_out_line(path, found.left_out) if found.left_out else ""
    if not found.videos:
        raise DataError(line or f"{path}: has no video")
    if line:
        logger.warning("%s", line)
    root = path if path.is_dir() else path.parent
    clips = [Clip(name := relative(video, root), video, UNLABELLED, name) for video in found.videos]
    validation = {Path(name).name for name in spec.validation_clips}
    for clip in clips:
        if clip.path.name in validation:
            raise DataError(
                f"{clip.path}: is a validation clip of this network; calibrate on other videos"
            )
    return clips


def order_clips(spec: NetworkSpec, available: Sequence[Clip], seed: int) -> list[Clip]:
    """The network's training clips, in an order in which any first part is spread evenly.

    Classes alternate, with all other classes counting as one; within a class the groups (source
    videos) alternate. Both orders are shuffled by the seed.
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
        classes.append(_interleave(_shuffled(members, rng)))
    return _interleave(_shuffled(classes, rng))


def _shuffled(items: list[T], rng: np.random.Generator) -> list[T]:
    return [items[index] for index in rng.permutation(len(items))]


def _interleave(queues: list[list[T]]) -> list[T]:
    return [item for turn in zip_longest(*queues) for item in turn if item is not None]


def known_label(label: str, spec: NetworkSpec) -> str:
    """The label, or OTHER if it is none of the network's classes."""
    return label if label in spec.classes else OTHER


def order_unlabelled(clips: Sequence[Clip], seed: int) -> list[Clip]:
    """The clips, shuffled by the seed."""
    rng = np.random.default_rng(seed)
    return _shuffled(sorted(clips, key=lambda clip: clip.name), rng)
