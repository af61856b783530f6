"""Pictures that tell their number."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def picture(number: int, size_hw: tuple[int, int] = (240, 320)) -> np.ndarray:
    """(H, W, 3) BGR: a level that tells the number, and a square that moves."""
    result = np.full((*size_hw, 3), 20 + 2 * number, np.uint8)
    result[20:60, number : number + 40] = (0, 0, 255)
    return result


def fill(folder: Path, *names: str, size_hw: tuple[int, int] = (16, 24)) -> Path:
    """Grey pictures, each lighter than the one before it in `names`."""
    folder.mkdir(parents=True, exist_ok=True)
    for level, name in enumerate(names):
        assert cv2.imwrite(str(folder / name), np.full((*size_hw, 3), 10 * level, np.uint8))
    return folder
