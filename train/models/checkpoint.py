"""Checkpoints: weights and metadata in one safetensors file. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from edge.bundle.network import METADATA_KEY, NetworkSpec, parse_network
from edge.errors import CheckpointError
from edge.files import why, write_atomic
from train.data.cache import CachedClip
from train.models.build import network_of
from train.models.qat import plain_state

FORMAT = "2"
# one row per epoch: epoch (from 1), loss and, with validation, top1 and log_likelihood
History = list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of a network. recipe: as JSON; weights: source of the initial weights, as text;
    train_sha256, validation_sha256: of the clips' names and contents (see `data_hash`); contents:
    the SHA-256 of each of these clips, by name.
    """

    recipe: str
    weights: str
    train_sha256: str
    validation_sha256: str
    contents: Mapping[str, str]

    @classmethod
    def of(
        cls, recipe: str, weights: str, train: list[CachedClip], validation: list[CachedClip]
    ) -> Origin:
        """The origin of a network that was trained and judged on these clips."""
        contents = {clip.clip.name: clip.sha256 for clip in (*train, *validation)}
        return cls(recipe, weights, data_hash(train), data_hash(validation), contents)


def write_checkpoint(
    path: Path, network: nn.Module, spec: NetworkSpec, origin: Origin, history: History, best: bool
) -> None:
    """Write a network, atomically. best: whether it is the best of its run so far.

    Raises CheckpointError if it cannot be written; an earlier file at `path` is then unchanged.
    """
    metadata = {
        "format": FORMAT,
        METADATA_KEY: spec.to_json(),
        "recipe": origin.recipe,
        "weights": origin.weights,
        "train_sha256": origin.train_sha256,
        "validation_sha256": origin.validation_sha256,
        "contents": json.dumps(origin.contents),
        "history": json.dumps(history),
        "best": json.dumps(best),
    }
    write_tensors(path, plain_state(network), metadata)


def load_checkpoint(path: Path) -> tuple[nn.Module, NetworkSpec, History]:
    """The network in evaluation mode, its specification and its learning curve.

    path: a checkpoint, or the folder of a run, of which the best checkpoint is loaded. Raises
    CheckpointError if there is none, the file is not a checkpoint of this version, or its weights
    do not fit its backbone.
    """
    path = find_checkpoint(path)
    state, metadata = read_tensors(path)
    spec = read_spec(path, metadata)
    network = network_of(spec)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: weights do not fit {spec.backbone}: {reason}") from None
    return network.eval(), spec, json.loads(metadata["history"])


def find_checkpoint(path: Path) -> Path:
    """The file itself, or the best checkpoint in a run folder. Raises CheckpointError if there is
    none.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such checkpoint")
    best = [file for file in epoch_files(path) if read_metadata(file)["best"] == "true"]
    if not best:
        raise CheckpointError(f"{path}: holds no checkpoint that a training run has written")
    return best[-1]


def epoch_files(folder: Path) -> list[Path]:
    """The checkpoints of a run, EPOCH-BEST-CURRENT.safetensors, oldest first."""
    return sorted(folder.glob("[0-9]*-*-*.safetensors"), key=epoch_of)


def epoch_of(file: Path) -> int:
    """The epoch of a checkpoint, from its name."""
    return int(file.name.partition("-")[0])


def read_spec(path: Path, metadata: dict[str, str]) -> NetworkSpec:
    """The specification in a checkpoint's metadata. `path` is for messages only. Raises
    CheckpointError if it is missing or invalid.
    """
    try:
        return parse_network(metadata[METADATA_KEY])
    except (KeyError, ValueError) as error:
        raise _not_a_checkpoint(path, error) from None


def read_metadata(path: Path, key: str = METADATA_KEY) -> dict[str, str]:
    """The metadata of a checkpoint, without loading its weights. key: that of its specification.
    Raises CheckpointError if the file is not a checkpoint of this version, or has no such key.
    """
    try:
        with safe_open(path, "pt") as header:
            metadata = header.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise _not_a_checkpoint(path, error) from None
    if key not in metadata:
        raise CheckpointError(f"{path}: not a {key} checkpoint (says nothing of its network)")
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: is of format {metadata.get('format', '1')}, this twostream reads {FORMAT}; "
            "train again, or use the version that wrote it"
        )
    return metadata  # type: ignore[no-any-return]


def read_contents(path: Path, metadata: dict[str, str]) -> dict[str, str]:
    """The SHA-256 of each clip of a network's training and validation, by name; {} in checkpoints
    of earlier versions. `path` is for messages only. Raises CheckpointError if it is damaged.
    """
    try:
        return TypeAdapter(dict[str, str]).validate_json(metadata.get("contents", "{}"))
    except ValidationError as error:
        raise _not_a_checkpoint(path, error) from None


def read_tensors(
    path: Path, key: str = METADATA_KEY
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors by name, on the CPU, and the metadata. Raises CheckpointError as `read_metadata`."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    metadata = read_metadata(path, key)
    try:
        return load_file(path), metadata
    except (SafetensorError, OSError, ValueError) as error:
        raise _not_a_checkpoint(path, error) from None


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file atomically, so that it is complete even after a power cut. Raises
    CheckpointError if it cannot be written.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        # not save_file(), which replaces the open file of write_atomic by one of its own
        with write_atomic(path) as file:
            file.write(save(contiguous, metadata))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: cannot be written ({_reason(error)}); checkpoints written before are whole"
        ) from None


def data_hash(clips: list[CachedClip]) -> str:
    """SHA-256 of the clips' names and contents, independent of their order."""
    lines = sorted(f"{clip.clip.name} {clip.sha256}\n" for clip in clips)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _not_a_checkpoint(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path}: not a twostream checkpoint ({_reason(error)})")


def _reason(error: Exception) -> str:
    return why(error) if isinstance(error, OSError) else str(error).split("\n")[0]
