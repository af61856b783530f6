"""Clips of a data set, and their partition into training and test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip. name: unique in its data set; path: a video, or a folder of images; label: its
    class; group: the recording it was cut from, since clips of one group are alike.
    """

    name: str
    path: Path
    label: str
    group: str


@dataclass(frozen=True, slots=True)
class Split:
    """A partition. No group of a class is in both parts. missing: listed, but not on disk.
    left_out: what might have been meant as a clip, and why it is none.
    """

    number: int
    train: tuple[Clip, ...]
    test: tuple[Clip, ...]
    missing: tuple[str, ...]
    left_out: Mapping[Path, str] = field(default_factory=dict)
