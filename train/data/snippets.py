"""Which moments of a clip are looked at (snippets: Wang et al., 2016), and their tensors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.bundle.network import NetworkSpec
from edge.inputs.builder import build_input
from train.data.cache import CachedClip
from train.data.transforms import Crop, augment_steps


def evenly_spaced(frames: int, history: int, count: int) -> list[int]:
    """`count` frame indices, evenly spaced over those that have `history` frames before them.

    Repeated when the clip has fewer. Raises ValueError for a clip too short for one.
    """
    if frames <= history:
        raise ValueError(f"{frames} frames; an input needs {history + 1}")
    return [round(x) for x in np.linspace(history, frames - 1, count)]


def middles(frames: int, history: int, count: int) -> tuple[int, ...]:
    """The frame indices in the middle of `count` equal parts of those that have `history` frames
    before them; fewer where the clip has fewer, none where it is too short."""
    room = max(frames - history, 0)
    found = {history + int((part + 0.5) * room / count) for part in range(count)}
    return tuple(sorted(found)) if room else ()


def tensor_at(clip: CachedClip, index: int, spec: NetworkSpec) -> NDArray[np.float32]:
    """The network's input (channels, H, W) at frame `index`, as it is live."""
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
    """The same, cut, mirrored and shifted first, at a size of its own."""
    steps = clip.steps(index, spec.input.history + 1)
    steps = augment_steps(steps, spec.input.motion, crop, size_hw, rng, colour)
    return build_input(spec.input, size_hw, spec.normalisation, steps)
