"""Accuracy by the protocol of the field: evenly spaced moments of a clip, softmax averaged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge.fusion import Scores, softmax
from edge.network import NetworkSpec
from train.cache import CachedClip
from train.samples import evenly_spaced, tensor_at

# (N, channels, H, W) float32 -> (N, C) logits
Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def torch_network(network: nn.Module) -> Network:
    """A torch module as a function of arrays."""
    device = next(network.parameters()).device

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network(torch.from_numpy(batch).to(device)).float().cpu().numpy()

    return run


def sample_scores(
    clip: CachedClip,
    spec: NetworkSpec,
    network: Network,
    stack: int,
    samples: int,
    temperature: float = 1.0,
) -> Scores:
    """The softmax scores at each evenly spaced moment of one clip, (samples, C)."""
    moments = evenly_spaced(len(clip), stack, samples)
    batch = np.stack([tensor_at(clip, index, spec) for index in moments])
    return softmax(network(batch), temperature)


def score_clips(
    clips: list[CachedClip], spec: NetworkSpec, network: Network, stack: int, samples: int
) -> Scores:
    """The mean softmax scores of each clip, (clips, C)."""
    return np.stack([sample_scores(c, spec, network, stack, samples).mean(axis=0) for c in clips])


def top1(scores: Scores, clips: list[CachedClip], classes: tuple[str, ...]) -> float:
    """The share of clips whose best class is theirs."""
    hits = [
        classes[int(row.argmax())] == c.clip.label for row, c in zip(scores, clips, strict=True)
    ]
    return sum(hits) / len(hits)
