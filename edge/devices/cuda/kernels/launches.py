"""Launches, and the signatures of all kernels. pycuda runs launches on a GPU; the tests run the
same launches on a CPU, from the same source files.
"""

from __future__ import annotations

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
    "quantise": ("stack.cu", "PfiP"),
    "stack": ("stack.cu", "PiiiiffP"),
}
FILES = tuple(dict.fromkeys(file for file, _ in KERNELS.values()))


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of a kernel. grid: in blocks (x, y); block: in threads (x, y)."""

    kernel: str
    grid: tuple[int, int]
    block: tuple[int, int]
    arguments: tuple[int | float, ...]


def source(file: str) -> str:
    """The CUDA source of one of FILES."""
    return (FOLDER / file).read_text()


def cover(size_hw: tuple[int, int], block: tuple[int, int]) -> tuple[int, int]:
    """The grid of blocks (x, y) that covers H x W threads."""
    height, width = size_hw
    return -(-width // block[0]), -(-height // block[1])
