"""Exports the causal recurrent fusion as a float ONNX file with its state going in and out."""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from edge.bundle.manifest import RecurrentLogits
from edge.bundle.network import FUSION_KEY, NetworkSpec
from edge.bundle.tensor_names import INPUT, OUTPUT, next_state
from edge.devices.fusion_network import open_stateful, run_sequence
from edge.devices.inference import NetworkFile, StatefulNetwork
from edge.errors import ExportError
from edge.files import write_atomic
from export.graph import OPSET, TOLERANCE
from train.evaluation.recurrent import STATE, Origin, RecurrentFusion, load_recurrent
from train.models.checkpoint import find_checkpoint

FILE = "fusion.onnx"
_CHECKED_SNIPPETS = 30


@dataclass(frozen=True, slots=True)
class RecurrentFile:
    """What `twostream fuse --out` has written."""

    network: RecurrentFusion
    origin: Origin


@dataclass(frozen=True, slots=True)
class RecurrentCandidate:
    """A network that validation may choose. spec: its temperature, window and threshold are still
    to be fitted."""

    network: StatefulNetwork
    spec: RecurrentLogits


def load_for(path: Path, checkpoints: dict[str, Path], spec: NetworkSpec) -> RecurrentFile:
    """checkpoints: files or run folders of the bundle's streams. spec: of one of them.

    Raises CheckpointError if the file is not a recurrent fusion, ExportError if it was fitted on
    the scores of other networks or clips.
    """
    network, origin = load_recurrent(path)
    again = "; run `twostream evaluate --for-fusion` and `twostream fuse --out` again"
    if origin.split != spec.split:
        raise ExportError(
            f"{path}: was fitted on split {origin.split}, the networks were trained on split "
            f"{spec.split}{again}"
        )
    if sorted(origin.streams) != sorted(checkpoints):
        streams, others = ", ".join(origin.streams), ", ".join(checkpoints)
        raise ExportError(f"{path}: fuses {streams}, the bundle has {others}{again}")
    for stream, checkpoint in checkpoints.items():
        digest = hashlib.sha256(find_checkpoint(checkpoint).read_bytes()).hexdigest()
        if origin.checkpoints[stream] != digest:
            raise ExportError(
                f"{path}: was fitted on the scores of another {stream} network than "
                f"{checkpoint}{again}"
            )
    return RecurrentFile(network, origin)


def export_recurrent(file: RecurrentFile, folder: Path) -> RecurrentCandidate:
    """Write FILE into a folder, and open it as a run does. Raises ExportError if it does not give
    the logits of the network."""
    network, path = file.network, folder / FILE
    with write_atomic(path, ExportError) as written:
        model = _trace(network)
        entry = model.metadata_props.add()
        entry.key, entry.value = FUSION_KEY, "recurrent"
        written.write(model.SerializeToString(deterministic=True))
    spec = RecurrentLogits(
        kind="recurrent",
        temperature=1.0,
        file=FILE,
        inputs=file.origin.streams,
        state=STATE,
        interval_s=file.origin.interval_s,
    )
    shape, classes = (1, len(network.mean)), len(network.classes)
    opened = open_stateful(NetworkFile(path.read_bytes(), str(path), shape, classes, STATE))
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((_CHECKED_SNIPPETS, shape[1]), np.float32)
    inputs = noise * network.spread.numpy() + network.mean.numpy()
    with torch.inference_mode():
        expected = network(torch.from_numpy(inputs[None]))[0].numpy()
    difference = float(np.abs(run_sequence(opened, inputs) - expected).max())
    if not difference <= TOLERANCE:  # NaN is a fault, too
        raise ExportError(
            f"{path}: ONNX and torch differ by {difference:.2g} in a logit (allowed: "
            f"{TOLERANCE:g}); are the weights finite?"
        )
    return RecurrentCandidate(opened, spec)


class _Step(nn.Module):
    def __init__(self, network: RecurrentFusion) -> None:
        super().__init__()
        self.network = network

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.network.step(*tensors)


def _trace(network: RecurrentFusion) -> onnx.ModelProto:
    """One snippet: input and state -> logits and the next state."""
    shapes = {INPUT: (1, len(network.mean))} | STATE
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        file = Path(folder) / "graph.onnx"
        torch.onnx.export(
            _Step(network).eval(),
            tuple(torch.ones(shape) for shape in shapes.values()),
            file,
            input_names=list(shapes),
            output_names=[OUTPUT, *map(next_state, STATE)],
            opset_version=OPSET,
            dynamo=False,
        )
        return onnx.load(file)
