"""Clips of a data set, and their partition into training and test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip. name: unique in its data set; path: a video, or a folder of pictures; label: its
    class; group: what it was cut from: clips of one group are alike.
    """

    name: str
    path: Path
    label: str
    group: str


@dataclass(frozen=True, slots=True)
class Split:
    """A partition. No group of a class is in both parts. missing: listed, and not on disk."""

    number: int
    train: tuple[Clip, ...]
    test: tuple[Clip, ...]
    missing: tuple[str, ...]
