"""Launches, and the signatures of all kernels. pycuda runs launches on a GPU; the tests run the
same launches on a CPU, from the same source files.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent

# Kernel -> file and argument types: P an address, i an int32, f a float32 (as in module struct).
KERNELS: dict[str, tuple[str, str]] = {
    "resize_luma": ("preprocess.cu", "PiPPiiiP"),
    "rgb": ("preprocess.cu", "PPiPPiPPiiP"),
    "halve": ("preprocess.cu", "PiiP"),
    "upsample": ("tvl1.cu", "PiiiiP"),
    "linearise": ("tvl1.cu", "PPPiiP"),
    "iterate": ("tvl1.cu", "PPPiiiifffPP"),
    "quantise": ("stack.cu", "PPiP"),
    "stack": ("stack.cu", "PPiiiffP"),
}
FILES = tuple(dict.fromkeys(file for file, _ in KERNELS.values()))


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of a kernel. grid: in blocks (x, y); block: in threads (x, y)."""

    kernel: str
    grid: tuple[int, int]
    block: tuple[int, int]
    arguments: tuple[int | float, ...]


@dataclass(frozen=True, slots=True)
class PackedLaunch:
    """A launch as the driver takes it. block: (x, y, 1). arguments: packed."""

    kernel: str
    grid: tuple[int, int]
    block: tuple[int, int, int]
    arguments: bytes


def pack(launches: Iterable[Launch]) -> tuple[PackedLaunch, ...]:
    """Once for launches that are made again and again: packing costs the host as much as launching.

    Raises struct.error for arguments that are not those of the kernel.
    """
    return tuple(
        PackedLaunch(
            launch.kernel,
            launch.grid,
            (*launch.block, 1),
            struct.pack(KERNELS[launch.kernel][1], *launch.arguments),
        )
        for launch in launches
    )


def source(file: str) -> str:
    """The CUDA source of one of FILES."""
    return (FOLDER / file).read_text(encoding="utf-8")


def cover(size_hw: tuple[int, int], block: tuple[int, int]) -> tuple[int, int]:
    """The grid of blocks (x, y) that covers H x W threads."""
    height, width = size_hw
    return -(-width // block[0]), -(-height // block[1])
