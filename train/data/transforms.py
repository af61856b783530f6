"""Augmentation of frames and flow as bytes. The input is then built by the code of a live run.

Scale jitter and corner crops follow Wang et al., "Towards good practices for very deep two-stream
ConvNets", 2015: height and width of the crop are drawn separately from a list of scales, its
position from the four corners and the centre.
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
    """A random crop of a frame of `size_hw` px by a recipe, see AugmentationRecipe."""
    scales = recipe.scales
    first = int(rng.integers(len(scales)))
    second = int(np.clip(first + rng.integers(-1, 2), 0, len(scales) - 1))
    height = int(size_hw[0] * scales[first]) // 2 * 2
    width = int(size_hw[1] * scales[second]) // 2 * 2
    room_h, room_w = size_hw[0] - height, size_hw[1] - width
    if recipe.place == "corners":
        corners = [(0, 0), (0, room_w), (room_h, 0), (room_h, room_w)]
        positions = [*corners, (room_h // 2, room_w // 2)]
        top, left = positions[int(rng.integers(len(positions)))]
    else:
        top, left = int(rng.integers(room_h + 1)), int(rng.integers(room_w + 1))
    flip = bool(rng.random() < 0.5) and recipe.flip
    return Crop(top - top % 2, left - left % 2, height, width, flip)


def _crop_plane(
    plane: NDArray[np.uint8], crop: Crop, size_hw: tuple[int, int], shift: int
) -> NDArray[np.uint8]:
    """A crop of a plane, resized. The plane and the result are subsampled by 2**shift; crop and
    `size_hw` are in px of the frame.
    """
    rows = slice(crop.top >> shift, (crop.top + crop.height) >> shift)
    columns = slice(crop.left >> shift, (crop.left + crop.width) >> shift)
    height, width = size_hw[0] >> shift, size_hw[1] >> shift
    shrinks = height < crop.height >> shift and width < crop.width >> shift
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(plane[rows, columns], (width, height), interpolation=interpolation)
    return np.ascontiguousarray(resized[:, ::-1] if crop.flip else resized)  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Colours:
    """A change of colours: contrast and saturation are multiplied, brightness shifted by levels."""

    contrast: float
    brightness: float
    saturation: float


def draw_colours(rng: np.random.Generator, colour: float) -> Colours:
    """A random change. colour: its strength, 0 to 1; at 1 contrast changes by up to 30 %,
    brightness by 20 levels, saturation by 40 %."""
    contrast, brightness = 1 + colour * rng.uniform(-0.3, 0.3), colour * rng.uniform(-20, 20)
    return Colours(contrast, brightness, 1 + colour * rng.uniform(-0.4, 0.4))


def augment_frame(frame: Frame, crop: Crop, size_hw: tuple[int, int], colours: Colours) -> Frame:
    """A crop of a frame, resized to `size_hw` (even), with changed colours."""

    def shift_levels(
        plane: NDArray[np.uint8], middle: float, by: float, add: float
    ) -> NDArray[np.uint8]:
        levels = (np.arange(256) - middle) * by + middle + add
        return cv2.LUT(plane, np.clip(np.round(levels), 0, 255).astype(np.uint8))  # type: ignore[return-value]

    return replace(
        frame,
        y=shift_levels(
            _crop_plane(frame.y, crop, size_hw, 0), 126, colours.contrast, colours.brightness
        ),
        u=shift_levels(_crop_plane(frame.u, crop, size_hw, 1), 128, colours.saturation, 0),
        v=shift_levels(_crop_plane(frame.v, crop, size_hw, 1), 128, colours.saturation, 0),
    )


_STILL = 128  # the byte of no motion
_MIRRORED = np.arange(255, -1, -1, dtype=np.uint8)
_MIRRORED[_STILL] = _STILL


def mirror_u(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The bytes of u with changed sign, of the same shape: levels are mirrored at 127.5, but 128,
    what still flow is rounded to (see edge/motion/quantise.py), stays itself."""
    return _MIRRORED[levels]


def _zoom(levels: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """The bytes of one flow component (H, W) with its vectors scaled by `factor`. Both directions
    are rounded alike, away from zero, so that a mirrored picture gives mirrored bytes."""
    upper = np.clip(np.floor((np.arange(128, 256) - 127.5) * factor + 128), 0, 255)
    table = np.concatenate([255 - upper[::-1], upper]).astype(np.uint8)
    table[_STILL] = _STILL
    return cv2.LUT(levels, table)  # type: ignore[return-value]


def augment_stack(
    stack: NDArray[np.uint8], crop: Crop, size_hw: tuple[int, int]
) -> NDArray[np.uint8]:
    """A crop of a stack of flow bytes (L, 2, H, W), resized: (L, 2, *size_hw).

    Vectors are scaled as if the crop was enlarged to (H, W), for any `size_hw`, so that they are in
    px of the network's full-size input. Mirroring changes the sign of u.
    """
    zoom_u, zoom_v = stack.shape[3] / crop.width, stack.shape[2] / crop.height
    out = np.empty((*stack.shape[:2], *size_hw), np.uint8)
    for index, (u, v) in enumerate(stack):
        u = _zoom(_crop_plane(u, crop, size_hw, 0), zoom_u)
        out[index, 0] = mirror_u(u) if crop.flip else u
        out[index, 1] = _zoom(_crop_plane(v, crop, size_hw, 0), zoom_v)
    return out  # (L, 2, *size_hw)


def augment_steps(
    steps: Sequence[Step],
    motion: Spec | None,
    crop: Crop,
    size_hw: tuple[int, int],
    rng: np.random.Generator,
    colour: float,
) -> list[Step]:
    """Augment the steps of one input, all with the same crop and change of colours.

    motion: the input's motion method, whose flow is augmented; None augments the frames. The other
    part of each step is unchanged. size_hw: as in `augment_frame`. colour: as in `draw_colours`.
    """
    if motion is None:
        colours = draw_colours(rng, colour)
        return [replace(s, frame=augment_frame(s.frame, crop, size_hw, colours)) for s in steps]
    flow_steps = [step for step in steps if step.flows]
    stack = augment_stack(np.stack([step.flows[motion] for step in flow_steps]), crop, size_hw)
    return [replace(s, flows={motion: flow}) for s, flow in zip(flow_steps, stack, strict=True)]


def cut_steps(steps: Sequence[Step], motion: Spec | None, crop: Crop) -> list[Step]:
    """A crop of the steps of one input. Nothing is resized, so flow keeps its length. motion: as in
    `augment_steps`.
    """
    size_hw = crop.height, crop.width

    def cut(plane: NDArray[np.uint8], shift: int) -> NDArray[np.uint8]:
        return _crop_plane(plane, crop, size_hw, shift)

    if motion is None:

        def cut_frame(frame: Frame) -> Frame:
            return replace(frame, y=cut(frame.y, 0), u=cut(frame.u, 1), v=cut(frame.v, 1))

        return [replace(step, frame=cut_frame(step.frame)) for step in steps]
    cut_flows = []
    for step in steps:
        if step.flows:
            u, v = (cut(plane, 0) for plane in step.flows[motion])
            flow = np.stack([mirror_u(u) if crop.flip else u, v])
            cut_flows.append(replace(step, flows={motion: flow}))
    return cut_flows
