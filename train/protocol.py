"""The protocols of the field: so many evenly spaced moments of a clip, in one view or ten crops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge.flow.stack import stack_tensor
from edge.frames import Frame, rgb_tensor
from edge.fusion import Scores, softmax
from edge.network import NetworkSpec
from train.cache import STACK, CachedClip
from train.checkpoint import load_checkpoint
from train.models import classifier, pooled_features
from train.samples import evenly_spaced, tensor_at
from train.transforms import Crop, augment_frame, augment_stack

CROP_SHARE = 7 / 8  # of the side: 224 of 256, as Simonyan and Zisserman have it
BATCH = 32


@dataclass(frozen=True, slots=True)
class Protocol:
    """samples: evenly spaced moments of a clip, 19 or 25 in print. crops: 1, the whole view as it
    is live, or 10, the corners and the centre and their mirrors.
    """

    samples: int
    crops: int


@dataclass(frozen=True, slots=True)
class ClipScores:
    """What a network says of one clip. scores: (samples, C), softmax, averaged over the crops;
    features: (samples, F), what its classifier sees, averaged likewise.
    """

    scores: Scores
    features: NDArray[np.float32]


def ten_crops(size_hw: tuple[int, int]) -> list[Crop]:
    """The four corners and the centre, and the same in the mirror."""
    height, width = (int(side * CROP_SHARE) // 2 * 2 for side in size_hw)
    room_h, room_w = size_hw[0] - height, size_hw[1] - width
    places = [(0, 0), (0, room_w), (room_h, 0), (room_h, room_w)]
    places.append((room_h // 4 * 2, room_w // 4 * 2))
    return [Crop(*place, height, width, flip) for flip in (False, True) for place in places]


def score_clip(clip: CachedClip, checkpoint: Path, protocol: Protocol) -> ClipScores:
    """What the network of a checkpoint says of a clip.

    It is loaded once a process, so that a worker of a cluster can be given nothing but its path.
    """
    network, spec, device = _loaded(checkpoint)
    scores: list[Scores] = []
    features: list[NDArray[np.float32]] = []
    for inputs in _batches(_views(clip, spec, protocol)):
        with torch.inference_mode():
            pooled = pooled_features(network, torch.from_numpy(inputs).to(device))  # (N, F)
            logits = classifier(network)(pooled)  # (N, C)
        scores.append(softmax(logits.float().cpu().numpy(), 1.0))
        features.append(pooled.float().cpu().numpy())
    count = protocol.samples

    def averaged(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.concatenate(parts).reshape(count, protocol.crops, -1).mean(axis=1)

    return ClipScores(averaged(scores), averaged(features))


@cache
def _loaded(checkpoint: Path) -> tuple[nn.Module, NetworkSpec, torch.device]:
    network, spec, _ = load_checkpoint(checkpoint)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return network.to(device), spec, device


def _views(
    clip: CachedClip, spec: NetworkSpec, protocol: Protocol
) -> Iterator[NDArray[np.float32]]:
    """Inputs (channels, H, W), the crops of a moment one after another."""
    for index in evenly_spaced(len(clip), STACK, protocol.samples):
        if protocol.crops == 1:
            yield tensor_at(clip, index, spec)
        else:
            for crop in ten_crops(clip.size_hw):
                yield _cropped(clip, index, spec, crop)


def _cropped(clip: CachedClip, index: int, spec: NetworkSpec, crop: Crop) -> NDArray[np.float32]:
    if spec.stack is None:
        frame: Frame = augment_frame(
            clip.frame(index), crop, clip.size_hw, np.random.default_rng(0), 0.0
        )
        return rgb_tensor(frame, spec.normalisation)
    assert spec.layout is not None
    stack = augment_stack(clip.stack(index, spec.stack), crop, clip.size_hw)
    return stack_tensor(list(stack), spec.layout, spec.normalisation)


def _batches(views: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    waiting: list[NDArray[np.float32]] = []
    for view in views:
        waiting.append(view)
        if len(waiting) == BATCH:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)
