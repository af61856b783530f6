"""Augmentation, on bytes and before the last step: what follows it is the code that runs live.

Scale and corner crops are those of Wang et al., 2015: the height and the width of the crop are
drawn apart from a list of scales, its place from the four corners and the centre.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.frames import Frame

SCALES = (1.0, 0.875, 0.75, 0.66)


@dataclass(frozen=True, slots=True)
class Crop:
    """A rectangle of an analysed frame, in px (all even), and whether to mirror it."""

    top: int
    left: int
    height: int
    width: int
    flip: bool


def draw_crop(rng: np.random.Generator, size_hw: tuple[int, int]) -> Crop:
    """A scale and corner crop with a coin's flip. The two sides are at most one scale apart."""
    first = int(rng.integers(len(SCALES)))
    second = int(np.clip(first + rng.integers(-1, 2), 0, len(SCALES) - 1))
    height = int(size_hw[0] * SCALES[first]) // 2 * 2
    width = int(size_hw[1] * SCALES[second]) // 2 * 2
    room_h, room_w = size_hw[0] - height, size_hw[1] - width
    corners = [(0, 0), (0, room_w), (room_h, 0), (room_h, room_w), (room_h // 2, room_w // 2)]
    top, left = corners[int(rng.integers(len(corners)))]
    return Crop(top - top % 2, left - left % 2, height, width, bool(rng.random() < 0.5))


def _cut(plane: NDArray[np.uint8], crop: Crop, shift: int) -> NDArray[np.uint8]:
    """The crop of one plane (subsampled by 2**shift), brought back to the plane's own size."""
    rows = slice(crop.top >> shift, (crop.top + crop.height) >> shift)
    columns = slice(crop.left >> shift, (crop.left + crop.width) >> shift)
    size_wh = (plane.shape[1], plane.shape[0])
    cut = cv2.resize(plane[rows, columns], size_wh, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(cut[:, ::-1] if crop.flip else cut)  # type: ignore[return-value]


def augment_frame(frame: Frame, crop: Crop, rng: np.random.Generator) -> Frame:
    """A crop of an analysed frame with its brightness, contrast and colour shifted a little."""
    gain, offset = rng.uniform(0.7, 1.3), rng.uniform(-20, 20)
    saturation = rng.uniform(0.6, 1.4)

    def shift_levels(
        plane: NDArray[np.uint8], middle: float, by: float, add: float
    ) -> NDArray[np.uint8]:
        levels = (np.arange(256) - middle) * by + middle + add
        return cv2.LUT(plane, np.clip(np.round(levels), 0, 255).astype(np.uint8))  # type: ignore[return-value]

    return replace(
        frame,
        y=shift_levels(_cut(frame.y, crop, 0), 126, gain, offset),
        u=shift_levels(_cut(frame.u, crop, 1), 128, saturation, 0),
        v=shift_levels(_cut(frame.v, crop, 1), 128, saturation, 0),
    )


def mirror_u(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Horizontal flow seen in a mirror: u changes sign, so a level changes sides of 127.5."""
    return 255 - levels


def _zoom(levels: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """Flow of a picture enlarged by `factor` along the flow's axis: longer by as much."""
    table = np.clip(np.floor((np.arange(256) - 127.5) * factor + 128), 0, 255).astype(np.uint8)
    table[128] = 128  # no motion stays no motion
    return cv2.LUT(levels, table)  # type: ignore[return-value]


def augment_stack(stack: NDArray[np.uint8], crop: Crop) -> NDArray[np.uint8]:
    """A crop of a stack of flow bytes (L, 2, H, W): vectors grow with the picture, u flips sign."""
    zoom_u, zoom_v = stack.shape[3] / crop.width, stack.shape[2] / crop.height
    out = np.empty_like(stack)
    for index, (u, v) in enumerate(stack):
        u = _zoom(_cut(u, crop, 0), zoom_u)
        out[index, 0] = mirror_u(u) if crop.flip else u
        out[index, 1] = _zoom(_cut(v, crop, 0), zoom_v)
    return out  # (L, 2, H, W)
