"""Chooses the snippets of a clip (Wang et al., 2016) and builds their tensors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.bundle.network import NetworkSpec
from edge.inputs.builder import build_input
from train.data.cache import CachedClip
from train.data.transforms import Crop, augment_steps


def evenly_spaced(frames: int, history: int, count: int) -> list[int]:
    """`count` frame indices, evenly spaced over those that have `history` frames before them.

    Some are repeated if the clip has fewer. Raises ValueError if it is too short for one.
    """
    if frames <= history:
        raise ValueError(f"{frames} frames; an input needs {history + 1}")
    return [round(x) for x in np.linspace(history, frames - 1, count)]


def middles(frames: int, history: int, count: int) -> tuple[int, ...]:
    """The middle frame indices of `count` equal parts of the frames that have `history` frames
    before them; fewer if the clip has fewer, none if it is too short."""
    room = max(frames - history, 0)
    indices = {history + int((part + 0.5) * room / count) for part in range(count)}
    return tuple(sorted(indices)) if room else ()


def tensor_at(clip: CachedClip, index: int, spec: NetworkSpec) -> NDArray[np.float32]:
    """The network's input (channels, H, W) at frame `index`, as in a live run."""
    steps = clip.steps(index, spec.input.history + 1)
    return build_input(spec.input, clip.size_hw, spec.normalisation, steps)


def augmented_tensor(
    clip: CachedClip,
    index: int,
    spec: NetworkSpec,
    crop: Crop,
    size_hw: tuple[int, int],
    rng: np.random.Generator,
    colour: float,
) -> NDArray[np.float32]:
    """Like `tensor_at`, augmented, at the size `size_hw`."""
    steps = clip.steps(index, spec.input.history + 1)
    steps = augment_steps(steps, spec.input.motion, crop, size_hw, rng, colour)
    return build_input(spec.input, size_hw, spec.normalisation, steps)
