"""Recurrent fusion: a GRU over what all streams give for each snippet, with attention over time.

The network is that of the Keras two-stream project: 19 snippets of a clip, a GRU with 128 units,
attention, a dense layer with 64. In two forms:

whole    attends to the whole clip, as that project does, over pooled features: for evaluation
causal   gives scores at each snippet of a live video, over logits, which are all that a device
         gives. Live video has no end, and actions follow each other in it. So attention fades by a
         learned factor a snippet, and training joins two clips to one sequence, in which the class
         changes: it learns to forget.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
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
_KEEP_LOGIT = 2.0  # at the start of training attention fades by 0.88 a snippet
# of the causal form's state, for one source; names of its tensors in ONNX
STATE: dict[str, tuple[int, ...]] = {
    "hidden": (1, _HIDDEN),  # of the GRU
    "attended": (1, _HIDDEN),  # sum of hidden states by attention
    "attention": (1, 1),  # sum of attention
}


class RecurrentFusion(nn.Module):
    """Inputs (N, T, F), the streams' features or logits side by side -> logits.

    causal: (N, T, C), each from the snippets up to it. whole: (N, 1, C), from all snippets.
    Inputs are standardised by the mean and deviation of the training clips, which are buffers.
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
        if kind == "causal":
            self.keep_logit = nn.Parameter(torch.tensor(_KEEP_LOGIT))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.gru((inputs - self.mean) / self.spread)  # (N, T, H)
        weight = self.query(hidden).exp()  # (N, T, 1), bounded: the layer before it is a tanh
        if self.kind == "whole":
            pooled = (weight * hidden).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        else:
            place = torch.arange(inputs.shape[1])
            age = place[:, None] - place  # (T, T), negative: later snippets
            fade = torch.where(age < 0, 0.0, self.keep_logit.sigmoid() ** age.clamp(min=0))
            pooled = (fade @ (weight * hidden)) / (fade @ weight)
        return self.head(pooled)  # type: ignore[no-any-return]

    def step(
        self,
        inputs: torch.Tensor,
        hidden: torch.Tensor,
        attended: torch.Tensor,
        attention: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """The causal form for one snippet (1, F), with STATE's tensors: logits (1, C), and the same
        tensors for the next snippet. Written out, for graphs of plain products."""
        ((of_input, of_hidden, input_bias, hidden_bias),) = self.gru.all_weights
        standardised = (inputs - self.mean) / self.spread
        gates = nn.functional.linear(standardised, of_input, input_bias)
        recurrent = nn.functional.linear(hidden, of_hidden, hidden_bias)
        reset_in, update_in, new_in = gates.chunk(3, dim=1)
        reset_hidden, update_hidden, new_hidden = recurrent.chunk(3, dim=1)
        reset = (reset_in + reset_hidden).sigmoid()
        update = (update_in + update_hidden).sigmoid()
        new = (new_in + reset * new_hidden).tanh()
        hidden = (1 - update) * new + update * hidden
        weight, keep = self.query(hidden).exp(), self.keep_logit.sigmoid()
        attended, attention = keep * attended + weight * hidden, keep * attention + weight
        return self.head(attended / attention), hidden, attended, attention


@dataclass(frozen=True, slots=True)
class Sequences:
    """Clips to fit on. inputs: (clips, T, F); truth: index of each clip's class, (clips,)."""

    inputs: NDArray[np.float32]
    truth: Truth


@dataclass(frozen=True, slots=True)
class Origin:
    """What a causal network was fitted on. split: of the data set. streams: whose logits its inputs
    are, side by side. checkpoints: SHA-256 by stream. interval_s: median time between the snippets
    of training clips."""

    split: int
    streams: tuple[str, ...]
    checkpoints: dict[str, str]
    interval_s: float


def fit_recurrent(
    kind: Kind, train: Sequences, validation: Sequences | None, classes: tuple[str, ...], seed: int
) -> RecurrentFusion:
    """Train on training clips. The result is the epoch with the best log-likelihood on the
    validation clips, or the last epoch if there are none. The same data and seed give the same
    network.
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
    kind: Kind, train: Sequences, validation: Sequences | None, classes: tuple[str, ...], seed: int
) -> RecurrentFusion:
    torch.manual_seed(seed)
    network = RecurrentFusion(kind, train.inputs.shape[2], classes)
    flat = torch.from_numpy(train.inputs).flatten(0, 1)
    network.mean.copy_(flat.mean(dim=0))
    network.spread.copy_(flat.std(dim=0) + 1e-3)
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=0.01)
    inputs, truth = torch.from_numpy(train.inputs), torch.from_numpy(train.truth)
    best, best_state = -np.inf, network.state_dict()
    for _ in range(_EPOCHS):
        network.train()
        for rows in torch.randperm(len(inputs)).split(_BATCH):
            batch, targets = _batch(kind, inputs[rows], truth[rows])
            logits = network(batch)  # (B, T, C), of the whole form (B, 1, C)
            loss = nn.functional.cross_entropy(
                logits.flatten(0, 1), targets[:, -logits.shape[1] :].flatten()
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        likelihood = 0.0
        if validation is not None and len(validation.truth):
            likelihood = log_likelihood(clip_scores(network, validation.inputs), validation.truth)
        if likelihood >= best:
            best = likelihood
            best_state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(best_state)
    return network.eval()


def _batch(
    kind: Kind, inputs: torch.Tensor, truth: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (B, T, F) and the class at each snippet (B, T); of the causal form, each clip is
    followed by another one of the batch."""
    targets = truth[:, None].expand(inputs.shape[:2])
    if kind == "whole":
        return inputs, targets
    other = torch.randperm(len(inputs))
    return torch.cat([inputs, inputs[other]], dim=1), torch.cat([targets, targets[other]], dim=1)


def clip_scores(network: RecurrentFusion, inputs: NDArray[np.float32]) -> Scores:
    """The softmax scores (clips, C) of clips with inputs (clips, T, F). For the causal form they
    are those after the last snippet.
    """
    network.eval()
    with torch.inference_mode():
        logits = network(torch.from_numpy(inputs))[:, -1]
    return softmax(logits.numpy(), 1.0)


def write_recurrent(path: Path, network: RecurrentFusion, origin: Origin) -> None:
    """Write a causal network. Raises CheckpointError if it cannot be written."""
    header = {"classes": network.classes, "features": len(network.mean)} | asdict(origin)
    write_tensors(path, network.state_dict(), {KEY: json.dumps(header)})


def load_recurrent(path: Path) -> tuple[RecurrentFusion, Origin]:
    """Load a causal network. Raises CheckpointError if the file is not one."""
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})[KEY])
        origin = Origin(
            int(header["split"]),
            tuple(map(str, header["streams"])),
            {stream: str(header["checkpoints"][stream]) for stream in header["streams"]},
            float(header["interval_s"]),
        )
        network = RecurrentFusion("causal", int(header["features"]), tuple(header["classes"]))
        network.load_state_dict(load_file(path))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"{path}: not a recurrent fusion of `twostream fuse --out` ({reason})"
        ) from None
    return network.eval(), origin
