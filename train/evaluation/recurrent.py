"""Recurrent fusion: a GRU over the pooled features of all streams, with attention over time.

The network is that of the Keras two-stream project: 19 snippets of a clip, a GRU with 128 units,
attention, a dense layer with 64. That project attends to the whole clip. The causal form here
attends to earlier snippets only, so that it gives scores at each snippet of a live video.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from edge.decision.fusion import Scores, softmax
from edge.errors import CheckpointError
from train.evaluation.metrics import Truth, log_likelihood
from train.models.checkpoint import write_tensors

Kind = Literal["causal", "whole"]
KINDS: tuple[Kind, Kind] = ("causal", "whole")
KEY = "twostream-recurrent"
_HIDDEN, _DENSE = 128, 64
_EPOCHS, _BATCH, _RATE, _DROPOUT = 60, 16, 2e-3, 0.5


class RecurrentFusion(nn.Module):
    """Pooled features (N, T, F), the streams' features side by side -> logits.

    causal: (N, T, C), each from the snippets up to it. whole: (N, 1, C), from all snippets.
    Features are standardised by the mean and deviation of the training clips, which are buffers.
    """

    mean: torch.Tensor
    spread: torch.Tensor  # standard deviation

    def __init__(self, kind: Kind, features: int, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.kind, self.classes = kind, classes
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        self.gru = nn.GRU(features, _HIDDEN, batch_first=True)
        self.query = nn.Sequential(nn.Linear(_HIDDEN, _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, 1))
        self.head = nn.Sequential(
            nn.Dropout(_DROPOUT),
            nn.Linear(_HIDDEN, _DENSE),
            nn.ReLU(),
            nn.Dropout(_DROPOUT),
            nn.Linear(_DENSE, len(classes)),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.gru((features - self.mean) / self.spread)  # (N, T, H)
        weight = self.query(hidden).exp()  # (N, T, 1), bounded: the layer before it is a tanh
        if self.kind == "whole":
            pooled = (weight * hidden).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        else:
            pooled = (weight * hidden).cumsum(1) / weight.cumsum(1)
        return self.head(pooled)  # type: ignore[no-any-return]


class LiveFusion:
    """The causal form, one snippet at a time. Raises CheckpointError for the form `whole`."""

    def __init__(self, network: RecurrentFusion) -> None:
        if network.kind != "causal":
            raise CheckpointError(f"{network.kind} fusion needs the whole video; take a causal one")
        self.network = network.eval()
        self.clear()

    def clear(self) -> None:
        """Forget all snippets, as after a gap in the video."""
        self._hidden: torch.Tensor | None = None
        self._sum = torch.zeros(1, 1, _HIDDEN)
        self._weight = torch.zeros(1, 1, 1)

    def step(self, features: NDArray[np.float32]) -> Scores:
        """The scores (C,) of the next snippet, from its pooled features (F,)."""
        network = self.network
        with torch.inference_mode():
            snippet = torch.from_numpy(features)[None, None]  # (1, 1, F)
            snippet = (snippet - network.mean) / network.spread
            hidden, self._hidden = network.gru(snippet, self._hidden)
            weight = network.query(hidden).exp()
            self._sum = self._sum + weight * hidden
            self._weight = self._weight + weight
            return softmax(network.head(self._sum / self._weight)[0, 0].numpy(), 1.0)


@dataclass(frozen=True, slots=True)
class Sequences:
    """Clips to fit on. features: (clips, T, F); truth: index of each clip's class, (clips,)."""

    features: NDArray[np.float32]
    truth: Truth


def fit_recurrent(
    kind: Kind, train: Sequences, validation: Sequences, classes: tuple[str, ...], seed: int
) -> RecurrentFusion:
    """Train on the features of training clips. The result is the epoch with the best log-likelihood
    on the validation clips, or the last epoch if there are none. The same data and seed give the
    same network.
    """
    with _one_thread():
        return _fit(kind, train, validation, classes, seed)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: for the many small products of such a GRU, more threads are slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _fit(
    kind: Kind, train: Sequences, validation: Sequences, classes: tuple[str, ...], seed: int
) -> RecurrentFusion:
    torch.manual_seed(seed)
    network = RecurrentFusion(kind, train.features.shape[2], classes)
    flat = torch.from_numpy(train.features).flatten(0, 1)
    network.mean.copy_(flat.mean(dim=0))
    network.spread.copy_(flat.std(dim=0) + 1e-3)
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=0.01)
    inputs, truth = torch.from_numpy(train.features), torch.from_numpy(train.truth)
    best, best_state = -np.inf, network.state_dict()
    for _ in range(_EPOCHS):
        network.train()
        for rows in torch.randperm(len(inputs)).split(_BATCH):
            logits = network(inputs[rows])  # (B, T or 1, C)
            targets = truth[rows, None].expand(-1, logits.shape[1])
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        likelihood = 0.0
        if len(validation.truth):
            likelihood = log_likelihood(clip_scores(network, validation.features), validation.truth)
        if likelihood >= best:
            best = likelihood
            best_state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(best_state)
    return network.eval()


def clip_scores(network: RecurrentFusion, features: NDArray[np.float32]) -> Scores:
    """The softmax scores (clips, C) of clips with features (clips, T, F). For the causal form they
    are those after the last snippet.
    """
    network.eval()
    with torch.inference_mode():
        logits = network(torch.from_numpy(features))[:, -1]
    return softmax(logits.numpy(), 1.0)


def write_recurrent(path: Path, network: RecurrentFusion) -> None:
    """Write a recurrent fusion. Raises CheckpointError if it cannot be written."""
    header = {"kind": network.kind, "classes": network.classes, "features": len(network.mean)}
    write_tensors(path, network.state_dict(), {KEY: json.dumps(header)})


def load_recurrent(path: Path) -> RecurrentFusion:
    """Load a recurrent fusion. Raises CheckpointError if the file is not one."""
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})[KEY])
        if header["kind"] not in KINDS:
            raise ValueError(f"kind {header['kind']!r}")
        network = RecurrentFusion(header["kind"], int(header["features"]), tuple(header["classes"]))
        network.load_state_dict(load_file(path))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(f"{path}: not a recurrent fusion of twostream ({reason})") from None
    return network.eval()
