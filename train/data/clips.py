"""Clips of a data set, and their partition into training and test."""

from __future__ import annotations

from dataclasses import dataclass
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
    """A partition. No group of a class is in both parts. missing: listed, but not on disk."""

    number: int
    train: tuple[Clip, ...]
    test: tuple[Clip, ...]
    missing: tuple[str, ...]
