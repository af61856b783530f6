"""Pairs of pictures whose flow is known: two of public benchmarks, and moved textures."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.support.paths import REPOSITORY

FLOW_ROOT = Path(os.environ.get("FLOW_ROOT", REPOSITORY.parent / "shared" / "flow"))
Planes = NDArray[np.uint8]  # (H, W)
PAIRS = {
    "rubberwhale": (
        "rubberwhale_frame10.png",
        "rubberwhale_frame11.png",
        "rubberwhale_flow10.flo",
    ),
    "flyingchairs": (
        "flyingchairs_0000001-img0.png",
        "flyingchairs_0000001-img1.png",
        "flyingchairs_0000001-gt.flo",
    ),
}


def read_luma(path: Path) -> NDArray[np.uint8]:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2GRAY)


def read_flo(path: Path) -> NDArray[np.float32]:
    """Middlebury .flo: a tag, width, height, then (u, v) by rows -> (2, H, W)."""
    raw = np.fromfile(path, np.float32)
    width, height = raw[1:3].view(np.int32)
    return raw[3:].reshape(height, width, 2).transpose(2, 0, 1)


def endpoint_error(flow: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    """Mean over the pixels whose truth is known (unknown is above 1e9)."""
    known = np.abs(truth).max(0) < 1e9
    return float(np.hypot(*(flow - truth))[known].mean())


def texture(size_hw: tuple[int, int], seed: int = 0) -> NDArray[np.float32]:
    """A smooth random picture, 0..255, whose structures are some 6 px wide."""
    noise = np.random.default_rng(seed).normal(size=size_hw).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return cv2.normalize(smooth, None, 20, 235, cv2.NORM_MINMAX)


def moving_pair(size_hw: tuple[int, int], u: float, v: float) -> tuple[Planes, Planes]:
    """Two windows of one random texture; the second shows it moved by (u, v) px."""
    margin = 8
    large = texture((size_hw[0] + 2 * margin, size_hw[1] + 2 * margin))
    moved = cv2.warpAffine(
        large, np.float32([[1, 0, u], [0, 1, v]]), large.shape[::-1], flags=cv2.INTER_CUBIC
    )
    inside = (slice(margin, -margin), slice(margin, -margin))
    first, second = (np.clip(np.rint(p[inside]), 0, 255).astype(np.uint8) for p in (large, moved))
    return first, second
