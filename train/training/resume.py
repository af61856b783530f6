"""The complete state of a training run between two steps, in one file, for --resume.

    resume.safetensors    network.*, mean.* (the moving average), optimiser.N.*, and metadata

It has no state of a random generator: every draw is seeded by the recipe's seed, the epoch and the
step.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import ValidationError

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
from train.training.learner import Learner

STATE_FILE = "resume.safetensors"


@dataclass(slots=True)
class Progress:
    """How far a run is. epoch: the current one, from 1. step: the number of steps done in it, and
    loss_sum: the sum of their losses. history: one row for each finished epoch.
    """

    epoch: int = 1
    step: int = 0
    loss_sum: float = 0.0
    history: History = field(default_factory=list)

    def count_step(self, loss: float) -> None:
        """Count a step of the current epoch."""
        self.step += 1
        self.loss_sum += loss

    def finish_epoch(self, metrics: dict[str, float]) -> None:
        """Append the row of the current epoch to the history, and go on to the next epoch.

        metrics: of the validation; empty without one.
        """
        row = {"epoch": float(self.epoch), "loss": self.loss_sum / self.step}
        self.history.append(row | metrics)
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0


@dataclass(frozen=True, slots=True)
class TrainingState:
    """What a state file holds: the tensors of a Learner, by name, and the progress of the run."""

    tensors: dict[str, torch.Tensor]
    progress: Progress


def write_state(
    path: Path, learner: Learner, progress: Progress, spec: NetworkSpec, origin: Origin
) -> None:
    """Write the state of a run, atomically. Raises CheckpointError if it cannot be written; the
    previous state file is then still there.
    """
    tensors = _flatten("network", learner.network.state_dict())
    if learner.average is not None:
        tensors |= _flatten("mean", learner.average.state_dict())
    for number, values in learner.optimiser.state_dict()["state"].items():
        tensors |= _flatten(
            f"optimiser.{number}", {k: v for k, v in values.items() if v is not None}
        )
    metadata = {
        "format": FORMAT,
        METADATA_KEY: spec.to_json(),
        "recipe": origin.recipe,
        "train_sha256": origin.train_sha256,
        "validation_sha256": origin.validation_sha256,
        "position": json.dumps([progress.epoch, progress.step, progress.loss_sum]),
        "history": json.dumps(progress.history),
        "scaler": json.dumps(learner.scaler.state_dict()),
    }
    write_tensors(path, tensors, metadata)


def load_state(path: Path, spec: NetworkSpec, origin: Origin) -> TrainingState:
    """The state at `path`, to resume from.

    Raises CheckpointError if the file cannot be read or is of another run: with another network,
    recipe, class list or other clips. The message names the first difference.
    """
    tensors, metadata = read_tensors(path)
    _check_same_spec(path, read_spec(path, metadata), spec)
    try:
        recipe = parse_recipe(metadata["recipe"])
        epoch, step, loss_sum = json.loads(metadata["position"])
        progress = Progress(epoch, step, loss_sum, json.loads(metadata["history"]))
        hashes = (metadata["train_sha256"], metadata["validation_sha256"])
        scaler = json.loads(metadata["scaler"])
    except (KeyError, ValueError, TypeError, ValidationError) as error:
        reason = str(error).split("\n")[0]
        raise CheckpointError(f"{path}: not the state of a training run ({reason})") from None
    _check_same_recipe(path, recipe, parse_recipe(origin.recipe))
    if hashes != (origin.train_sha256, origin.validation_sha256):
        raise CheckpointError(
            f"{path}: is of a run on clips with other contents; "
            "give the same data, or start anew with another --out"
        )
    tensors = tensors | {f"scaler.{k}": torch.tensor(v) for k, v in scaler.items()}
    return TrainingState(tensors, progress)


def restore(learner: Learner, state: TrainingState, path: Path) -> None:
    """Load the tensors of a state into the learner. `path` is for messages only. Raises
    CheckpointError if they do not fit.
    """
    try:
        learner.network.load_state_dict(_under("network", state.tensors))
        if learner.average is not None:
            learner.average.load_state_dict(_under("mean", state.tensors))
        groups = learner.optimiser.state_dict()
        by_parameter: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in _under("optimiser", state.tensors).items():
            number, _, key = name.partition(".")
            by_parameter.setdefault(int(number), {})[key] = tensor
        learner.optimiser.load_state_dict(groups | {"state": by_parameter})
        scaler = {k: v.item() for k, v in _under("scaler", state.tensors).items()}
        if scaler:
            learner.scaler.load_state_dict(scaler)
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


def _check_same_spec(path: Path, saved: NetworkSpec, current: NetworkSpec) -> None:
    for key in NetworkSpec.model_fields:
        old, new = getattr(saved, key), getattr(current, key)
        if old != new:
            difference = f"{_short(old)} there, {_short(new)} now"
            if key.endswith("_clips"):
                count = len(set(old) ^ set(new))
                difference = f"{len(old)} clips there, {len(new)} now, {count} not in both"
            raise CheckpointError(
                f"{path}: is of a run with another {key} ({difference}); "
                "give the same, or start anew with another --out"
            )


def _check_same_recipe(path: Path, saved: Recipe, current: Recipe) -> None:
    old, new = _values(saved.model_dump()), _values(current.model_dump())
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
