"""Checkpoints: one safetensors file, weights and specification together. Nothing is unpickled."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from edge.errors import CheckpointError
from edge.network import METADATA_KEY, NetworkSpec
from train.models import BACKBONE, build_network


def write_checkpoint(
    path: Path, network: nn.Module, spec: NetworkSpec, history: list[dict[str, float]]
) -> None:
    """Write weights, specification and learning curve; a reader sees the old file or the new."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    metadata = {METADATA_KEY: spec.to_json(), "history": json.dumps(history)}
    partial = path.with_name(path.name + ".part")
    save_file(state, partial, metadata)
    partial.replace(path)


def load_checkpoint(path: Path) -> tuple[nn.Module, NetworkSpec, list[dict[str, float]]]:
    """The network in evaluation mode, its specification and its learning curve.

    Raises CheckpointError when the file is no checkpoint of this project or does not fit.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, "pt") as header:
            metadata = header.metadata() or {}
        spec = NetworkSpec.model_validate_json(metadata[METADATA_KEY])
        history = json.loads(metadata["history"])
        state = load_file(path)
    except (SafetensorError, KeyError, ValidationError, ValueError, OSError) as error:
        reason = str(error).split("\n")[0]
        raise CheckpointError(f"{path}: not a twostream checkpoint ({reason})") from None
    if spec.backbone != BACKBONE:
        raise CheckpointError(f"{path}: backbone {spec.backbone} is not known; known: {BACKBONE}")
    network = build_network(spec.channels, len(spec.classes), dropout=0.0)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: weights do not fit {spec.backbone}: {error}") from None
    return network.eval(), spec, history
