"""Test protocols: evenly spaced snippets of a clip, each as one whole view or as ten crops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge.bundle.network import NetworkSpec
from edge.decision.fusion import Scores, softmax
from train.data.cache import CachedClip
from train.data.snippets import augmented_tensor, cut_tensor, evenly_spaced, tensor_at
from train.data.transforms import Crop
from train.models.backbone import classifier, pooled_features
from train.models.checkpoint import load_checkpoint
from train.models.malloc import keep_freed_memory

# Inputs (N, ...) float32, as train.data.snippets builds them -> outputs (N, K) float32, such as
# logits (N, C)
Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]

CROP_SHARE = 7 / 8  # of the side: 224 of 256 px (Simonyan and Zisserman, 2014)
BATCH = 32  # inputs


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a clip is sampled.

    samples: number of evenly spaced snippets; 19 and 25 are usual. crops: 1, the whole view as in
    a live run, or 10, the corners and the centre and their mirror images. history: the index of the
    first frame that may be a snippet's last. It is the largest history of all networks that are
    evaluated together, so that their scores are of the same snippets and can be fused. cut: whether
    crops have the network's input size and frames are larger (see papers.py); else frames have that
    size, and crops are CROP_SHARE of it, enlarged.
    """

    samples: int
    crops: int
    history: int
    cut: bool = False


@dataclass(frozen=True, slots=True)
class ClipScores:
    """A network's output for the snippets of one clip, averaged over the crops.

    scores: softmax scores (samples, C), and the logits (samples, C) that they are of. features:
    inputs of its classifier (samples, F). times_s: stream time of each snippet's last frame,
    (samples,).
    """

    scores: Scores
    logits: NDArray[np.float32]
    features: NDArray[np.float32]
    times_s: NDArray[np.float32]


def ten_crops(size_hw: tuple[int, int], crop_hw: tuple[int, int]) -> list[Crop]:
    """The corners and the centre of a frame, then the same mirrored. All sizes are even."""
    height, width = crop_hw
    room_h, room_w = size_hw[0] - height, size_hw[1] - width
    corners = [(0, 0), (0, room_w), (room_h, 0), (room_h, room_w)]
    positions = [*corners, (room_h // 4 * 2, room_w // 4 * 2)]
    return [
        Crop(*position, height, width, flip) for flip in (False, True) for position in positions
    ]


def torch_network(network: nn.Module) -> Network:
    """A torch module as a function of arrays, computed on the device of its parameters."""
    device = next(network.parameters()).device

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network(torch.from_numpy(batch).to(device)).float().cpu().numpy()

    return run


def sample_scores(
    clip: CachedClip, spec: NetworkSpec, network: Network, protocol: Protocol
) -> Scores:
    """The softmax scores of each snippet of a clip, averaged over the crops: (samples, C).

    network: gives logits.
    """
    return _rows(clip, spec, lambda batch: softmax(network(batch), 1.0), protocol)


def sample_logits(
    clip: CachedClip, spec: NetworkSpec, network: Network, protocol: Protocol
) -> NDArray[np.float32]:
    """The logits of each snippet of a clip, averaged over the crops: (samples, C)."""
    return _rows(clip, spec, network, protocol)


def frame_features(
    clip: CachedClip, spec: NetworkSpec, network: nn.Module, frames: Sequence[int]
) -> NDArray[np.float32]:
    """The inputs of a network's classifier for inputs that end at `frames`: (frames, F)."""
    run = torch_network(_PooledFeatures(network))
    inputs = (tensor_at(clip, index, spec) for index in frames)
    return np.concatenate([run(batch) for batch in _batches(inputs)])


def mean_scores(
    clips: list[CachedClip], spec: NetworkSpec, network: Network, samples: int, history: int
) -> Scores:
    """The mean softmax scores of each clip (clips, C), with one view per snippet.

    samples, history: see Protocol.
    """
    protocol = Protocol(samples, 1, history)
    return np.stack([sample_scores(c, spec, network, protocol).mean(axis=0) for c in clips])


def true_classes(clips: list[CachedClip], classes: tuple[str, ...]) -> NDArray[np.int64]:
    """The index of each clip's class, (clips,). Raises ValueError if one is not in `classes`."""
    return np.array([classes.index(clip.clip.label) for clip in clips], np.int64)


def score_clip(clip: CachedClip, checkpoint: Path, protocol: Protocol) -> ClipScores:
    """The scores and features of a clip by the network of a checkpoint.

    Each process loads the checkpoint once: a worker of a cluster gets only its path.
    """
    network, spec = _loaded(checkpoint)
    rows = _rows(clip, spec, network, protocol)  # (samples, C + C + F)
    classes = len(spec.classes)
    indices = evenly_spaced(clip, protocol.history, protocol.samples)
    times_s = np.array([clip.times_s[index] for index in indices], np.float32)
    scores, logits, features = np.split(rows, [classes, 2 * classes], axis=1)
    return ClipScores(scores, logits, features, times_s)


@cache
def _loaded(checkpoint: Path) -> tuple[Network, NetworkSpec]:
    """A network whose output rows are softmax scores, logits and features: (N, C + C + F)."""
    keep_freed_memory()
    module, spec, _ = load_checkpoint(checkpoint)
    module.to("cuda" if torch.cuda.is_available() else "cpu")
    features = torch_network(_PooledFeatures(module))
    head = torch_network(classifier(module))

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        pooled = features(batch)
        logits = head(pooled)
        return np.concatenate([softmax(logits, 1.0), logits, pooled], axis=1)

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
    outputs = [network(inputs) for inputs in _batches(_views(clip, spec, protocol))]
    return np.concatenate(outputs).reshape(protocol.samples, protocol.crops, -1).mean(axis=1)


def _views(
    clip: CachedClip, spec: NetworkSpec, protocol: Protocol
) -> Iterator[NDArray[np.float32]]:
    """The inputs (channels, H, W) of all crops of the first snippet, of the second, and so on."""
    for index in evenly_spaced(clip, protocol.history, protocol.samples):
        if protocol.crops == 1:
            yield tensor_at(clip, index, spec)
        elif protocol.cut:
            for crop in ten_crops(clip.size_hw, spec.geometry.size_hw):
                yield cut_tensor(clip, index, spec, crop)
        else:
            height, width = (int(side * CROP_SHARE) // 2 * 2 for side in clip.size_hw)
            for crop in ten_crops(clip.size_hw, (height, width)):
                yield _enlarged(clip, index, spec, crop)


def _enlarged(clip: CachedClip, index: int, spec: NetworkSpec, crop: Crop) -> NDArray[np.float32]:
    """The input of a crop, resized to the size of the whole view, with unchanged colours."""
    unused = np.random.default_rng(0)
    return augmented_tensor(clip, index, spec, crop, clip.size_hw, unused, 0.0)


def _batches(views: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    for first in views:
        frames = 1 if first.ndim == 3 else max(first.shape[:2])  # of steps or of a clip
        yield np.stack([first, *islice(views, max(BATCH // frames, 1) - 1)])
