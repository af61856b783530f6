"""The complete state of a training run between two steps, in one file, for --resume.

    resume.safetensors    network.*, mean.* (the running mean), optimiser.N.*, and metadata

Nothing random is in it: what is drawn depends on the recipe's seed and on the position alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import nn
from torch.optim.swa_utils import AveragedModel

from edge.bundle.network import METADATA_KEY, NetworkSpec
from edge.errors import CheckpointError
from train.models.checkpoint import (
    FORMAT,
    History,
    Origin,
    read_spec,
    read_tensors,
    write_tensors,
)
from train.recipe import Recipe, parse_recipe

STATE_FILE = "resume.safetensors"


@dataclass(slots=True)
class Position:
    """epoch: the one under way, from 1; step: steps of it done; loss_sum: of those steps."""

    epoch: int = 1
    step: int = 0
    loss_sum: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Tensors by name, and the position in the run."""

    tensors: dict[str, torch.Tensor]
    position: Position
    history: History


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a run that change at each step."""

    network: nn.Module
    mean: AveragedModel | None
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler


def write_state(
    path: Path,
    parts: Parts,
    position: Position,
    history: History,
    spec: NetworkSpec,
    origin: Origin,
) -> None:
    """Write a state. Raises CheckpointError if it cannot be written; the last one is kept then."""
    tensors = _flatten("network", parts.network.state_dict())
    if parts.mean is not None:
        tensors |= _flatten("mean", parts.mean.state_dict())
    for number, values in parts.optimiser.state_dict()["state"].items():
        tensors |= _flatten(
            f"optimiser.{number}", {k: v for k, v in values.items() if v is not None}
        )
    metadata = {
        "format": FORMAT,
        METADATA_KEY: spec.to_json(),
        "recipe": origin.recipe,
        "train_sha256": origin.train_sha256,
        "validation_sha256": origin.validation_sha256,
        "position": json.dumps([position.epoch, position.step, position.loss_sum]),
        "history": json.dumps(history),
        "scaler": json.dumps(parts.scaler.state_dict()),
    }
    write_tensors(path, tensors, metadata)


def load_state(path: Path, spec: NetworkSpec, origin: Origin) -> TrainingState:
    """The state at `path`, to resume from.

    Raises CheckpointError if the file cannot be read or belongs to another run: another
    network, recipe, class list or other clips, of which the first difference is named.
    """
    tensors, metadata = read_tensors(path)
    _check_same_spec(path, read_spec(path, metadata), spec)
    try:
        recipe = parse_recipe(metadata["recipe"])
        position = Position(*json.loads(metadata["position"]))
        history = json.loads(metadata["history"])
        found = (metadata["train_sha256"], metadata["validation_sha256"])
        scaler = json.loads(metadata["scaler"])
    except (KeyError, ValueError, TypeError, ValidationError) as error:
        reason = str(error).split("\n")[0]
        raise CheckpointError(f"{path}: not the state of a training run ({reason})") from None
    _check_same_recipe(path, recipe, parse_recipe(origin.recipe))
    if found != (origin.train_sha256, origin.validation_sha256):
        raise CheckpointError(
            f"{path}: the clips have other contents than those it was trained on; "
            "bring the same data, or start anew with another --out"
        )
    tensors = tensors | {f"scaler.{k}": torch.tensor(v) for k, v in scaler.items()}
    return TrainingState(tensors, position, history)


def restore(parts: Parts, state: TrainingState, path: Path) -> None:
    """Restore the tensors of a state. Raises CheckpointError if they do not fit."""
    try:
        parts.network.load_state_dict(_under("network", state.tensors))
        if parts.mean is not None:
            parts.mean.load_state_dict(_under("mean", state.tensors))
        saved = parts.optimiser.state_dict()
        flat: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in _under("optimiser", state.tensors).items():
            number, _, key = name.partition(".")
            flat.setdefault(int(number), {})[key] = tensor
        parts.optimiser.load_state_dict(saved | {"state": flat})
        scaler = {k: v.item() for k, v in _under("scaler", state.tensors).items()}
        if scaler:
            parts.scaler.load_state_dict(scaler)
    except (RuntimeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}: does not fit this network and optimiser ({reason})"
        ) from None


def _flatten(prefix: str, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in values.items()}


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    start = prefix + "."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def _check_same_spec(path: Path, found: NetworkSpec, wanted: NetworkSpec) -> None:
    for key in NetworkSpec.model_fields:
        old, new = getattr(found, key), getattr(wanted, key)
        if old != new:
            what = f"{_short(old)} there, {_short(new)} now"
            if key.endswith("_clips"):
                apart = len(set(old) ^ set(new))
                what = f"{len(old)} clips there, {len(new)} now, {apart} not in both"
            raise CheckpointError(
                f"{path}: is of a run with another {key} ({what}); "
                "ask for the same, or start anew with another --out"
            )


def _check_same_recipe(path: Path, found: Recipe, wanted: Recipe) -> None:
    old, new = _values(found.model_dump()), _values(wanted.model_dump())
    differing = [key for key in new if old[key] != new[key] and key not in ("title", "source")]
    if differing:
        key = differing[0]
        raise CheckpointError(
            f"{path}: is of a run with another recipe ({key} is {old[key]} there, {new[key]} now); "
            f"add --set {key}={old[key]}, or start anew with another --out"
        )


def _values(tables: dict[str, object], prefix: str = "") -> dict[str, object]:
    """{"section.key": value}"""
    flat: dict[str, object] = {}
    for key, value in tables.items():
        if isinstance(value, dict):
            flat |= _values(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
