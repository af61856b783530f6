"""Chooses the snippets of a clip (Wang et al., 2016) and builds their tensors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.bundle.network import NetworkSpec
from edge.inputs.builder import CLIPS, build_input
from edge.inputs.flow_stack import FlowInput
from edge.inputs.rgb_online import RGBOnlineInput
from edge.inputs.spaced import spaced
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
    if isinstance(spec.input, RGBOnlineInput):
        return clip.steps_at(_spaced(clip, index, spec, first=0))
    if isinstance(spec.input, CLIPS):  # the first frame has no flow that leads to it
        with_motion = spec.input.motion is not None
        indices = _spaced(clip, index, spec, first=1 if with_motion else 0)
        return clip.steps_at(sorted(set(indices)), frames=not with_motion)
    frames = not isinstance(spec.input, FlowInput)
    return clip.steps(index, spec.input.history + 1, frames)


def _spaced(clip: CachedClip, index: int, spec: NetworkSpec, first: int) -> list[int]:
    """The indices of the frames that an input over time at frame `index` is made of, oldest first.
    first: how many frames after a gap are left out."""
    begin = clip.timeline.begin(index) + first
    times_s = clip.times_s[begin : index + 1]
    chosen = spaced(times_s, spec.input.frames, spec.input.step_interval_s)
    return [begin + each for each in chosen]


def _build(spec: NetworkSpec, size_hw: tuple[int, int], steps: list[Step]) -> NDArray[np.float32]:
    """The input (channels, H, W); with a state those of all steps, (T, channels, H, W)."""
    if spec.state:
        inputs = [build_input(spec.input, size_hw, spec.normalisation, [step]) for step in steps]
        return np.stack(inputs)
    return build_input(spec.input, size_hw, spec.normalisation, steps)


def tensor_at(clip: CachedClip, index: int, spec: NetworkSpec) -> NDArray[np.float32]:
    """The network's input (channels, H, W) at frame `index`, as in a live run; of a network with
    state its T last steps, (T, channels, H, W)."""
    return _build(spec, clip.size_hw, _steps(clip, index, spec))


def newest_tensor_at(clip: CachedClip, index: int, spec: NetworkSpec) -> NDArray[np.float32]:
    """The input (channels, H, W) of a network with state for frame `index` alone."""
    steps = clip.steps_at([index])
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
    steps = augment_steps(_steps(clip, index, spec), spec.input.motion, crop, size_hw, rng, colour)
    return _build(spec, size_hw, steps)


def cut_tensor(clip: CachedClip, index: int, spec: NetworkSpec, crop: Crop) -> NDArray[np.float32]:
    """Like `tensor_at`, of a crop at its own size."""
    steps = cut_steps(_steps(clip, index, spec), spec.input.motion, crop)
    return _build(spec, (crop.height, crop.width), steps)
