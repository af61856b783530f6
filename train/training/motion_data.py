"""Stacks of pictures for a network of motion, and the flow that teaches it, if there is any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from edge.motion.preprocessor import Step
from edge.motion.quantise import to_pixels
from edge.spec import Spec
from train.data.cache import CachedClip
from train.data.snippets import middles
from train.data.transforms import augment_frame, augment_stack, draw_colours, draw_crop
from train.models.motion_checkpoint import MotionNetSpec
from train.models.motionnet import SIZES
from train.recipe import AugmentationRecipe
from train.training.drift import PIECES_MAX, draw_drift

COLOUR = 0.5  # strength of changes of brightness and contrast


# Of a pairwise network, which needs many scenes rather than long ones: for the same work, stacks of
# three small windows teach it what a few whole ones of eleven pictures do not.
PAIRWISE_FRAMES, PAIRWISE_PX = 3, 112


class Stack(NamedTuple):
    """pictures: (L + 1, H, W) uint8, luma. taught: flow (2L, H, W) float32, px, all u and then all
    v; 0 where it is not known. known: (), bool."""

    pictures: torch.Tensor
    taught: torch.Tensor
    known: torch.Tensor


class MotionSamples(Dataset[Stack]):
    """The stacks of a run, in order. Each depends on its number and the seed alone, so that it is
    the same after a resume."""

    def __init__(self, clips: Sequence[CachedClip], spec: MotionNetSpec, teacher: Spec | None):
        """teacher: the method of motion whose cached flow is taught."""
        self._clips = [clip for clip in clips if clip.usable(spec.input.history)]
        self._spec, self._teacher = spec, teacher
        self._short = SIZES[spec.network].pairwise
        self._frames = PAIRWISE_FRAMES if self._short else spec.input.frames
        self._augmentation = AugmentationRecipe(
            name="motion",
            scales=spec.recipe.scales,
            place="random",
            flip=True,
            colour=COLOUR,
            size_px=0,
            full_size_epochs=0,
        )

    def __len__(self) -> int:
        return self._spec.recipe.steps * self._spec.recipe.batch

    def __getitem__(self, number: int) -> Stack:
        rng = np.random.default_rng((self._spec.recipe.seed, number))
        if rng.random() < self._spec.recipe.drift:
            return self._drift(rng)
        clip, newest = self._draw(rng)
        steps = _repeat_some(clip.steps(newest, self._frames), self._spec.recipe.still, rng)
        crop = draw_crop(rng, clip.size_hw, self._augmentation)
        frames = [step.frame for step in steps]
        colours = draw_colours(rng, COLOUR)  # the same for all, or brightness would not be kept
        frames = [augment_frame(frame, crop, clip.size_hw, colours) for frame in frames]
        rows, columns = self._window(clip.size_hw, rng)
        pictures = torch.from_numpy(np.stack([frame.y[rows, columns] for frame in frames]))
        if self._teacher is None:
            unknown = torch.zeros(2 * (len(pictures) - 1), *pictures.shape[1:])
            return Stack(pictures, unknown, torch.tensor(False))
        still = np.full((2, *clip.size_hw), 128, np.uint8)
        flows = [step.flows.get(self._teacher, still) for step in steps[1:]]
        stack = augment_stack(np.stack(flows), crop, clip.size_hw)  # (L, 2, H, W)
        stack = stack.swapaxes(0, 1).reshape(-1, *clip.size_hw)
        pixels = to_pixels(stack, self._teacher)  # type: ignore[arg-type]
        pixels[stack == 128] = 0
        taught = np.ascontiguousarray(pixels[:, rows, columns])
        return Stack(pictures, torch.from_numpy(taught), torch.tensor(True))

    def _draw(self, rng: np.random.Generator) -> tuple[CachedClip, int]:
        """A clip, and the newest frame of a stack in it."""
        clip = self._clips[int(rng.integers(len(self._clips)))]
        usable = clip.usable(self._spec.input.history)
        return clip, usable[int(rng.integers(len(usable)))]

    def _drift(self, rng: np.random.Generator) -> Stack:
        planes = []
        for _ in range(1 + int(rng.integers(PIECES_MAX + 1))):
            clip, newest = self._draw(rng)
            # as it is: networks that learnt from enlarged pieces saw more motion than there was
            (step,) = clip.steps(newest, 1)
            planes.append(step.frame.y[:, :: -1 if rng.random() < 0.5 else 1])
        rows, columns = self._window(planes[0].shape, rng)
        planes = [np.ascontiguousarray(plane[rows, columns]) for plane in planes]
        pictures, flow = draw_drift(planes, self._frames, rng)
        return Stack(torch.from_numpy(pictures), torch.from_numpy(flow), torch.tensor(True))

    def _window(self, size_hw: Sequence[int], rng: np.random.Generator) -> tuple[slice, slice]:
        """The part of the picture that is trained on."""
        if not self._short:
            return slice(None), slice(None)
        sides = [min(PAIRWISE_PX, side) for side in size_hw]
        starts = [
            int(rng.integers(whole - side + 1)) for whole, side in zip(size_hw, sides, strict=True)
        ]
        rows, columns = (slice(a, a + side) for a, side in zip(starts, sides, strict=True))
        return rows, columns


def _repeat_some(steps: Sequence[Step], share: float, rng: np.random.Generator) -> list[Step]:
    """In a `share` of all calls some of the steps come again without motion, in place of the oldest
    ones; so a network learns that not every frame moves as those before it."""
    if rng.random() >= share:
        return list(steps)
    moves = rng.random(len(steps) - 1) < rng.random()
    moves[int(rng.integers(len(moves)))] = True
    first = len(steps) - 1 - int(moves.sum())
    out = [Step(steps[first].frame)]
    for at, moved in zip(first + np.cumsum(moves), moves, strict=True):
        out.append(steps[at] if moved else Step(steps[at].frame))
    return out


def held_out_stacks(clips: Sequence[CachedClip], spec: MotionNetSpec) -> list[torch.Tensor]:
    """One stack (L + 1, H, W) uint8 of the middle of each clip."""
    stacks = []
    for clip in clips:
        for index in middles(clip, spec.input.history, 1):
            steps = clip.steps(index, spec.input.frames)
            stacks.append(torch.from_numpy(np.stack([step.frame.y for step in steps])))
    return stacks
