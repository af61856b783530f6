"""Which moments of a clip are looked at, and the tensors they give."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from edge.flow.stack import stack_tensor
from edge.frames import rgb_tensor
from edge.network import NetworkSpec
from train.cache import CachedClip
from train.transforms import Crop, augment_frame, augment_stack, draw_crop


def evenly_spaced(frames: int, stack: int, count: int) -> list[int]:
    """`count` frame indices, evenly spaced over those that a full stack of flows can end at.

    Repeated when the clip has fewer. Raises ValueError for a clip too short for one stack.
    """
    if frames <= stack:
        raise ValueError(f"{frames} frames; a stack of {stack} flows needs {stack + 1}")
    return [round(x) for x in np.linspace(stack, frames - 1, count)]


def tensor_at(
    clip: CachedClip,
    index: int,
    spec: NetworkSpec,
    crop: Crop | None = None,
    rng: np.random.Generator | None = None,
) -> NDArray[np.float32]:
    """The network's input (channels, H, W) at frame `index`, augmented if a crop is given."""
    if spec.stack is None:
        frame = clip.frame(index)
        if crop is not None and rng is not None:
            frame = augment_frame(frame, crop, rng)
        return rgb_tensor(frame, spec.normalisation)
    assert spec.layout is not None
    stack = clip.stack(index, spec.stack)
    if crop is not None:
        stack = augment_stack(stack, crop)
    return stack_tensor(list(stack), spec.layout, spec.normalisation)


class Snippets(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Training snippets: each clip is cut into segments, one random moment from each (TSN).

    A class with few clips gives more snippets of each, so that all classes weigh the same. A clip
    of no class in the list is trained towards equal scores (outlier exposure: Hendrycks et al.,
    2019), which is what makes a threshold for "unknown" mean something.
    """

    def __init__(
        self, clips: list[CachedClip], spec: NetworkSpec, stack: int, snippets: int, seed: int
    ) -> None:
        self.clips, self.spec, self.stack, self.seed = clips, spec, stack, seed
        self.epoch = 0
        counts = {label: sum(c.clip.label == label for c in clips) for label in spec.classes}
        most = max(counts.values())
        self.items: list[tuple[int, float, float]] = []  # clip, segment's start and end in 0..1
        for index, clip in enumerate(clips):
            own = counts.get(clip.clip.label)
            number = max(snippets // 2, 1) if own is None else round(snippets * min(most / own, 6))
            edges = np.linspace(0, 1, number + 1)
            self.items += [(index, edges[i], edges[i + 1]) for i in range(number)]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, item: int) -> tuple[torch.Tensor, torch.Tensor]:
        """An augmented input (channels, H, W) and its target scores (C,)."""
        rng = np.random.default_rng((self.seed, self.epoch, item))
        which, low, high = self.items[item]
        clip = self.clips[which]
        room = len(clip) - self.stack
        index = self.stack + min(int(room * rng.uniform(low, high)), room - 1)
        crop = draw_crop(rng, clip.size_hw)
        tensor = tensor_at(clip, index, self.spec, crop, rng)
        return torch.from_numpy(tensor), torch.from_numpy(target_scores(clip, self.spec))


def target_scores(clip: CachedClip, spec: NetworkSpec) -> NDArray[np.float32]:
    """1 at the clip's class, or equal scores when it has none of the network's classes. (C,)"""
    count = len(spec.classes)
    if clip.clip.label not in spec.classes:
        return np.full(count, 1 / count, np.float32)
    return np.eye(count, dtype=np.float32)[spec.classes.index(clip.clip.label)]
