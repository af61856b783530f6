"""The usual test protocols: evenly spaced snippets of a clip, with one view or ten crops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge.bundle.network import NetworkSpec
from edge.decision.fusion import Scores, softmax
from train.data.cache import CachedClip
from train.data.snippets import augmented_tensor, evenly_spaced, tensor_at
from train.data.transforms import Crop
from train.models.backbone import classifier, pooled_features
from train.models.checkpoint import load_checkpoint
from train.models.malloc import keep_freed_memory

# A batch of inputs (N, channels, H, W) float32 -> one row each (N, K) float32, logits for one
Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]

CROP_SHARE = 7 / 8  # of the side: 224 of 256, as Simonyan and Zisserman have it
BATCH = 32


@dataclass(frozen=True, slots=True)
class Protocol:
    """samples: evenly spaced moments of a clip, 19 or 25 in print. crops: 1, the whole view as it
    is live, or 10, the corners and the centre and their mirrors. history: frames before the first
    moment: the most that any of the networks needs which are evaluated together, so that a network
    of one frame and one of a stack are asked at the same moments and their scores can be fused.
    """

    samples: int
    crops: int
    history: int


@dataclass(frozen=True, slots=True)
class ClipScores:
    """What a network says of one clip. scores: (samples, C), softmax, averaged over the crops;
    features: (samples, F), what its classifier sees, averaged likewise.
    """

    scores: Scores
    features: NDArray[np.float32]


def ten_crops(size_hw: tuple[int, int]) -> list[Crop]:
    """The four corners and the centre, and the same mirrored."""
    height, width = (int(side * CROP_SHARE) // 2 * 2 for side in size_hw)
    room_h, room_w = size_hw[0] - height, size_hw[1] - width
    places = [(0, 0), (0, room_w), (room_h, 0), (room_h, room_w)]
    places.append((room_h // 4 * 2, room_w // 4 * 2))
    return [Crop(*place, height, width, flip) for flip in (False, True) for place in places]


def torch_network(network: nn.Module) -> Network:
    """A torch module as a function of arrays."""
    device = next(network.parameters()).device

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network(torch.from_numpy(batch).to(device)).float().cpu().numpy()

    return run


def sample_scores(
    clip: CachedClip, spec: NetworkSpec, network: Network, protocol: Protocol
) -> Scores:
    """The softmax scores of each snippet of a clip, averaged over the crops, (samples, C)."""
    return _rows(clip, spec, lambda batch: softmax(network(batch), 1.0), protocol)


def mean_scores(
    clips: list[CachedClip], spec: NetworkSpec, network: Network, samples: int, history: int
) -> Scores:
    """The mean softmax scores of each clip with the whole view, (clips, C); see Protocol."""
    protocol = Protocol(samples, 1, history)
    return np.stack([sample_scores(c, spec, network, protocol).mean(axis=0) for c in clips])


def true_classes(clips: list[CachedClip], classes: tuple[str, ...]) -> NDArray[np.int64]:
    """The index of each clip's class, (clips,). Raises ValueError if one is not in `classes`."""
    return np.array([classes.index(clip.clip.label) for clip in clips], np.int64)


def score_clip(clip: CachedClip, checkpoint: Path, protocol: Protocol) -> ClipScores:
    """The scores and features of a clip by the network of a checkpoint.

    It is loaded once a process, so that a worker of a cluster can be given nothing but its path.
    """
    network, spec = _loaded(checkpoint)
    rows = _rows(clip, spec, network, protocol)
    classes = len(spec.classes)
    return ClipScores(rows[:, :classes], rows[:, classes:])


@cache
def _loaded(checkpoint: Path) -> tuple[Network, NetworkSpec]:
    """A network whose output rows are the softmax scores followed by the features."""
    keep_freed_memory()
    module, spec, _ = load_checkpoint(checkpoint)
    module.to("cuda" if torch.cuda.is_available() else "cpu")
    features = torch_network(_PooledFeatures(module))
    head = torch_network(classifier(module))

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        pooled = features(batch)
        return np.concatenate([softmax(head(pooled), 1.0), pooled], axis=1)

    return run, spec


class _PooledFeatures(nn.Module):
    """A network up to its classifier, (N, channels, H, W) -> (N, F)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return pooled_features(self.network, batch)


def _rows(
    clip: CachedClip, spec: NetworkSpec, network: Network, protocol: Protocol
) -> NDArray[np.float32]:
    """The network's output for each snippet, averaged over the crops, (samples, K)."""
    parts = [network(inputs) for inputs in _batches(_views(clip, spec, protocol))]
    return np.concatenate(parts).reshape(protocol.samples, protocol.crops, -1).mean(axis=1)


def _views(
    clip: CachedClip, spec: NetworkSpec, protocol: Protocol
) -> Iterator[NDArray[np.float32]]:
    """Inputs (channels, H, W), for each snippet its crops one after another."""
    for index in evenly_spaced(len(clip), protocol.history, protocol.samples):
        if protocol.crops == 1:
            yield tensor_at(clip, index, spec)
        else:
            for crop in ten_crops(clip.size_hw):
                yield _cropped(clip, index, spec, crop)


def _cropped(clip: CachedClip, index: int, spec: NetworkSpec, crop: Crop) -> NDArray[np.float32]:
    """The input of a crop, resized to the size of the whole view; colours are unchanged."""
    unused = np.random.default_rng(0)
    return augmented_tensor(clip, index, spec, crop, clip.size_hw, unused, 0.0)


def _batches(views: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    waiting: list[NDArray[np.float32]] = []
    for view in views:
        waiting.append(view)
        if len(waiting) == BATCH:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)
