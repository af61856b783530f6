"""A trained network that teaches another by its scores (knowledge distillation)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from edge.bundle.network import NetworkSpec
from edge.errors import CheckpointError
from train.models.checkpoint import find_checkpoint, load_checkpoint
from train.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Teacher:
    """network: in evaluation mode. spec: of its input, which comes from the same snippets."""

    network: nn.Module
    spec: NetworkSpec


def open_teacher(recipe: Recipe, spec: NetworkSpec) -> Teacher | None:
    """The teacher that a recipe names for a new network; None if it names none.

    Raises CheckpointError if it cannot be loaded, does not see the same snippets and classes, or
    was trained on clips that the new network is validated on.
    """
    if not recipe.teacher.checkpoint:
        return None
    file = find_checkpoint(Path(recipe.teacher.checkpoint))
    network, taught, _ = load_checkpoint(file)
    for key in ("classes", "geometry"):
        if getattr(taught, key) != getattr(spec, key):
            raise CheckpointError(
                f"teacher.checkpoint {file}: has other {key} than the network that it is to "
                "teach; train both with the same options"
            )
    if taught.input.interval_s != spec.input.interval_s:
        raise CheckpointError(
            f"teacher.checkpoint {file}: its frames are {taught.input.interval_s} s apart, those "
            f"of the network that it is to teach {spec.input.interval_s} s"
        )
    if taught.input.history > recipe.sampling.stack:
        raise CheckpointError(
            f"teacher.checkpoint {file}: needs {taught.input.history} frames before the newest; "
            f"set sampling.stack to it, which is {recipe.sampling.stack}"
        )
    if seen := set(taught.train_clips) & set(spec.validation_clips):
        raise CheckpointError(
            f"teacher.checkpoint {file}: was trained on {len(seen)} of the validation clips, "
            f"{min(seen)} among them; train both on the same split and seed"
        )
    return Teacher(network, taught)
