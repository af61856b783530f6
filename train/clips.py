"""Clips of a data set, and their partition into training and test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Clip:
    """One video. name: its path below UCF-101/; label: its class; group: its source video."""

    name: str
    path: Path
    label: str
    group: str


@dataclass(frozen=True, slots=True)
class Split:
    """One of the three official partitions. No group of a class is in both parts."""

    number: int
    train: tuple[Clip, ...]
    test: tuple[Clip, ...]
    missing: int  # clips that the lists name and the disk has not
