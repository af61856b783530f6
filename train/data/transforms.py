"""Augmentation, on bytes, before the same code builds the input as in a live run.

Scale jitter and corner crops follow Wang et al., 2015: the height and the width of the crop are
drawn separately from a list of scales, its place from the four corners and the centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.motion.preprocessor import Step
from edge.spec import Spec
from edge.video.frames import Frame
from train.recipe import AugmentationRecipe


@dataclass(frozen=True, slots=True)
class Crop:
    """A rectangle of a resized frame, in px (all even), and whether to mirror it."""

    top: int
    left: int
    height: int
    width: int
    flip: bool


def draw_crop(
    rng: np.random.Generator, size_hw: tuple[int, int], recipe: AugmentationRecipe
) -> Crop:
    """A random crop, mirrored in half of the cases if the recipe flips.

    The scales of its two sides are at most one step of the recipe's list apart.
    """
    scales = recipe.scales
    first = int(rng.integers(len(scales)))
    second = int(np.clip(first + rng.integers(-1, 2), 0, len(scales) - 1))
    height = int(size_hw[0] * scales[first]) // 2 * 2
    width = int(size_hw[1] * scales[second]) // 2 * 2
    room_h, room_w = size_hw[0] - height, size_hw[1] - width
    if recipe.place == "corners":
        places = [(0, 0), (0, room_w), (room_h, 0), (room_h, room_w), (room_h // 2, room_w // 2)]
        top, left = places[int(rng.integers(len(places)))]
    else:
        top, left = int(rng.integers(room_h + 1)), int(rng.integers(room_w + 1))
    flip = bool(rng.random() < 0.5) and recipe.flip
    return Crop(top - top % 2, left - left % 2, height, width, flip)


def _cut(
    plane: NDArray[np.uint8], crop: Crop, size_hw: tuple[int, int], shift: int
) -> NDArray[np.uint8]:
    """The crop of one plane, resized to `size_hw`; plane and result are subsampled by 2**shift."""
    rows = slice(crop.top >> shift, (crop.top + crop.height) >> shift)
    columns = slice(crop.left >> shift, (crop.left + crop.width) >> shift)
    height, width = size_hw[0] >> shift, size_hw[1] >> shift
    shrinks = height < crop.height >> shift and width < crop.width >> shift
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    cut = cv2.resize(plane[rows, columns], (width, height), interpolation=interpolation)
    return np.ascontiguousarray(cut[:, ::-1] if crop.flip else cut)  # type: ignore[return-value]


def augment_frame(
    frame: Frame, crop: Crop, size_hw: tuple[int, int], rng: np.random.Generator, colour: float
) -> Frame:
    """A crop of a resized frame at `size_hw` (even), with contrast, brightness and saturation
    changed by up to 30 %, 20 levels and 40 % if `colour` is 1.
    """
    gain, offset = 1 + colour * rng.uniform(-0.3, 0.3), colour * rng.uniform(-20, 20)
    saturation = 1 + colour * rng.uniform(-0.4, 0.4)

    def shift_levels(
        plane: NDArray[np.uint8], middle: float, by: float, add: float
    ) -> NDArray[np.uint8]:
        levels = (np.arange(256) - middle) * by + middle + add
        return cv2.LUT(plane, np.clip(np.round(levels), 0, 255).astype(np.uint8))  # type: ignore[return-value]

    return replace(
        frame,
        y=shift_levels(_cut(frame.y, crop, size_hw, 0), 126, gain, offset),
        u=shift_levels(_cut(frame.u, crop, size_hw, 1), 128, saturation, 0),
        v=shift_levels(_cut(frame.v, crop, size_hw, 1), 128, saturation, 0),
    )


def mirror_u(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mirror horizontal flow: u changes its sign, so levels are mirrored at 127.5."""
    return 255 - levels


def _zoom(levels: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """The flow of a frame enlarged by `factor` along the flow's axis, which is as much larger."""
    table = np.clip(np.floor((np.arange(256) - 127.5) * factor + 128), 0, 255).astype(np.uint8)
    table[128] = 128  # no motion stays no motion
    return cv2.LUT(levels, table)  # type: ignore[return-value]


def augment_stack(
    stack: NDArray[np.uint8], crop: Crop, size_hw: tuple[int, int]
) -> NDArray[np.uint8]:
    """A crop of a stack of flow bytes (L, 2, H, W) at `size_hw`. Vectors are scaled as if the crop
    was enlarged to (H, W), whatever `size_hw` is; mirroring changes the sign of u.
    """
    zoom_u, zoom_v = stack.shape[3] / crop.width, stack.shape[2] / crop.height
    out = np.empty((*stack.shape[:2], *size_hw), np.uint8)
    for index, (u, v) in enumerate(stack):
        u = _zoom(_cut(u, crop, size_hw, 0), zoom_u)
        out[index, 0] = mirror_u(u) if crop.flip else u
        out[index, 1] = _zoom(_cut(v, crop, size_hw, 0), zoom_v)
    return out  # (L, 2, *size_hw)


def augment_steps(
    steps: Sequence[Step],
    motion: Spec | None,
    crop: Crop,
    size_hw: tuple[int, int],
    rng: np.random.Generator,
    colour: float,
) -> list[Step]:
    """Augment the steps of an input, all with the same crop: the flow of its motion method, or the
    frames if it has none. The other part of each step is left unchanged.
    """
    if motion is None:
        return [replace(s, frame=augment_frame(s.frame, crop, size_hw, rng, colour)) for s in steps]
    moved = [step for step in steps if step.flows]
    stack = augment_stack(np.stack([step.flows[motion] for step in moved]), crop, size_hw)
    return [replace(s, flows={motion: flow}) for s, flow in zip(moved, stack, strict=True)]
