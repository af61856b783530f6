"""Checkpoints of networks of motion: weights, specification and recipe in one safetensors file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, ValidationError

from edge.errors import CheckpointError
from edge.inputs.luma_stack import LumaStackInput
from edge.spec import Spec, first_fault
from edge.video.frames import Geometry, Normalisation
from train.models.checkpoint import FORMAT, read_metadata, read_tensors, write_tensors
from train.models.motionnet import SIZES, MotionNet

MOTION_KEY = "twostream-motion"  # in the metadata of such a file


class MotionRecipe(Spec):
    """All hyperparameters of a training run of a network of motion.

    steps, batch: optimiser steps, and stacks in each. rate: peak learning rate of Adam, which rises
        over a twentieth of the steps and falls with a cosine.
    clip_norm: maximum norm of the gradient.
    smoothness: weight of the smoothness of flow beside the pictures (see motion_loss.py).
    teacher: method whose flow is taught instead: "fast" or "accurate" (TV-L1), or "none".
    drift: share of the stacks that are drawn, so that their flow is known (see drift.py).
    scales: of crops, as of AugmentationRecipe; smaller crops are enlarged, and move faster. Drawn
        stacks are of pictures as they are.
    still: share of the stacks in which some frames are repeated, as cameras do.
    """

    seed: int = Field(ge=0)
    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    rate: float = Field(gt=0)
    clip_norm: float = Field(gt=0)
    smoothness: float = Field(ge=0)
    teacher: Literal["none", "fast", "accurate"]
    drift: float = Field(ge=0, le=1)
    scales: tuple[float, ...] = Field(strict=False, min_length=1)
    still: float = Field(ge=0, le=1)


class MotionNetSpec(Spec):
    """What is needed to use a network of motion as in training. network: of SIZES. split,
    train_clips, validation_clips: as in NetworkSpec."""

    network: str
    geometry: Geometry
    input: LumaStackInput
    normalisation: Normalisation
    split: int
    train_clips: tuple[str, ...] = Field(strict=False)
    validation_clips: tuple[str, ...] = Field(strict=False)
    recipe: MotionRecipe


@dataclass(frozen=True, slots=True)
class MotionFit:
    """How well flow explains pictures that were held out: the mean photometric loss of the finest
    scale. no_motion: the same of flow that is 0. stacks: how many."""

    loss: float
    no_motion: float
    stacks: int


def write_motion(path: Path, tensors: dict[str, torch.Tensor], spec: MotionNetSpec) -> None:
    """Write the tensors of a network, atomically. Raises CheckpointError if it cannot be
    written."""
    write_tensors(path, tensors, {"format": FORMAT, MOTION_KEY: spec.model_dump_json()})


def read_motion(path: Path) -> tuple[dict[str, torch.Tensor], MotionNetSpec]:
    """The tensors of such a file, and its specification. Raises CheckpointError if it is none."""
    tensors, _ = read_tensors(path, MOTION_KEY)
    return tensors, read_motion_spec(path)


def read_motion_spec(path: Path) -> MotionNetSpec:
    """The specification of such a file, without its weights. Raises CheckpointError if it is
    none."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; make one with twostream train-motion")
    try:
        spec = MotionNetSpec.model_validate_json(read_metadata(path, MOTION_KEY)[MOTION_KEY])
    except ValidationError as error:
        raise CheckpointError(f"{path}: {first_fault(error, MOTION_KEY)}") from None
    if spec.network not in SIZES:
        raise CheckpointError(
            f"{path}: has a network {spec.network!r:.40}; this twostream knows {', '.join(SIZES)}"
        )
    return spec


def load_motion(path: Path) -> tuple[MotionNet, MotionNetSpec]:
    """A network of motion in evaluation mode. Raises CheckpointError if it cannot be loaded."""
    tensors, spec = read_motion(path)
    network = MotionNet(spec.network, spec.input.frames)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: weights do not fit {spec.network}: {reason}") from None
    return network.eval(), spec
