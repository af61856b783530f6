"""Which moments of a clip are looked at (snippets: Wang et al., 2016), and their tensors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.bundle.network import NetworkSpec
from edge.motion.stack import stack_tensor
from edge.video.frames import rgb_tensor
from train.data.cache import CachedClip
from train.data.transforms import Crop, augment_frame, augment_stack


def evenly_spaced(frames: int, stack: int, count: int) -> list[int]:
    """`count` frame indices, evenly spaced over those that a full stack of flows can end at.

    Repeated when the clip has fewer. Raises ValueError for a clip too short for one stack.
    """
    if frames <= stack:
        raise ValueError(f"{frames} frames; a stack of {stack} flows needs {stack + 1}")
    return [round(x) for x in np.linspace(stack, frames - 1, count)]


def tensor_at(clip: CachedClip, index: int, spec: NetworkSpec) -> NDArray[np.float32]:
    """The network's input (channels, H, W) at frame `index`, as it is live."""
    if spec.stack is None:
        return rgb_tensor(clip.frame(index), spec.normalisation)
    assert spec.layout is not None
    return stack_tensor(list(clip.stack(index, spec.stack)), spec.layout, spec.normalisation)


def augmented_tensor(
    clip: CachedClip,
    index: int,
    spec: NetworkSpec,
    crop: Crop,
    size_hw: tuple[int, int],
    rng: np.random.Generator,
    colour: float,
) -> NDArray[np.float32]:
    """The same, cut, mirrored and shifted first, at a size of its own."""
    if spec.stack is None:
        frame = augment_frame(clip.frame(index), crop, size_hw, rng, colour)
        return rgb_tensor(frame, spec.normalisation)
    assert spec.layout is not None
    stack = augment_stack(clip.stack(index, spec.stack), crop, size_hw)
    return stack_tensor(list(stack), spec.layout, spec.normalisation)
