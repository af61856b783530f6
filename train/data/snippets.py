"""Chooses the snippets of a clip (Wang et al., 2016) and builds their tensors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.bundle.network import NetworkSpec
from edge.inputs.builder import build_input
from edge.inputs.flow_stack import FlowInput
from edge.motion.preprocessor import Step
from train.data.cache import CachedClip
from train.data.transforms import Crop, augment_steps, cut_steps


def evenly_spaced(clip: CachedClip, history: int, count: int) -> list[int]:
    """`count` frame indices, evenly spaced over those that an input may end at.

    Some are repeated if the clip has fewer. Raises ValueError if it has none.
    """
    usable = clip.usable(history)
    if not usable:
        raise ValueError(f"{clip.clip.name}: no {history + 1} frames follow one another")
    # rounded as in a clip without gaps, whose usable frames start at `history`
    places = np.linspace(history, history + len(usable) - 1, count)
    return [usable[round(place) - history] for place in places]


def middles(clip: CachedClip, history: int, count: int) -> tuple[int, ...]:
    """The middle frame indices of `count` equal parts of the frames that an input may end at; fewer
    if the clip has fewer, none if it has none."""
    usable = clip.usable(history)
    places = {int((part + 0.5) * len(usable) / count) for part in range(count)}
    return tuple(usable[place] for place in sorted(places)) if usable else ()


def _steps(clip: CachedClip, index: int, spec: NetworkSpec) -> list[Step]:
    """The steps that the input at frame `index` needs; a stack of flow looks at no frame."""
    frames = not isinstance(spec.input, FlowInput)
    return clip.steps(index, spec.input.history + 1, frames)


def tensor_at(clip: CachedClip, index: int, spec: NetworkSpec) -> NDArray[np.float32]:
    """The network's input (channels, H, W) at frame `index`, as in a live run."""
    return build_input(spec.input, clip.size_hw, spec.normalisation, _steps(clip, index, spec))


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
    steps = augment_steps(_steps(clip, index, spec), spec.input.motion, crop, size_hw, rng, colour)
    return build_input(spec.input, size_hw, spec.normalisation, steps)


def cut_tensor(clip: CachedClip, index: int, spec: NetworkSpec, crop: Crop) -> NDArray[np.float32]:
    """Like `tensor_at`, of a crop at its own size."""
    steps = cut_steps(_steps(clip, index, spec), spec.input.motion, crop)
    return build_input(spec.input, (crop.height, crop.width), spec.normalisation, steps)
