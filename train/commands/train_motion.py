"""`twostream train-motion`. Imports torch only once the command runs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from train.commands.arguments import Cache, Classes, Data, class_list

if TYPE_CHECKING:
    from train.data.clips import Clip
    from train.models.motion_checkpoint import MotionNetSpec, MotionRecipe

logger = logging.getLogger(__name__)

NetworkName = Literal["motionnet_small", "motionnet"]
TeacherName = Literal["none", "fast", "accurate"]
# Of Zhu et al.: learning rate and batch of the published size, which needs some 400,000 steps.
RATES: dict[str, float] = {"motionnet_small": 2e-3, "motionnet": 3.2e-5}
CLIP_NORM, SMOOTHNESS, STILL = 10.0, 0.3, 0.5
SCALES = (1.0, 0.875, 0.75, 0.66, 0.5)


def train_motion_command(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("work/motion"),
    network: Annotated[
        NetworkName, typer.Option(help="motionnet is the published size, 67 times the work.")
    ] = "motionnet_small",
    classes: Classes = "",
    split: Annotated[int, typer.Option(help="Official split, 1 to 3.")] = 1,
    teacher: Annotated[
        TeacherName,
        typer.Option(help="Learn from the flow of TV-L1 instead: fast or accurate."),
    ] = "none",
    drift: Annotated[
        float, typer.Option(min=0, max=1, help="Share of stacks of drawn motion, which is known.")
    ] = 0.75,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 20_000,
    batch: Annotated[int, typer.Option(min=1, help="Stacks in each step.")] = 24,
    rate: Annotated[
        float | None,
        typer.Option(min=1e-8, max=1, help="Peak learning rate; default: by the network."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything drawn at random.")] = 1,
    stack: Annotated[int, typer.Option(min=1, max=64, help="Flows in a stack.")] = 10,
    size_px: Annotated[
        int, typer.Option(min=32, max=1024, help="Side of the pictures; that of the streams.")
    ] = 224,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run in --out.")] = False,
    workers: Annotated[
        int, typer.Option(min=0, help="Data loading processes; 0 loads in this one.")
    ] = 1,
    cache: Cache = Path("work/cache"),
) -> None:
    """Train a network of motion without labels (MotionNet), for `train temporal --motion
    network=FILE`.

    It learns from the training clips alone. Give the --classes that the temporal network will have:
    the same clips are then held out.
    """
    from train.data.dataset import open_dataset
    from train.data.splits import hold_out
    from train.recipe import load_recipe

    dataset = open_dataset(data, split)
    names = class_list(classes, {clip.label for clip in dataset.train})
    fraction = load_recipe("default", "temporal").validation.fraction
    train, validation = hold_out(dataset.train, names, fraction)
    recipe = motion_recipe(network, teacher, drift, steps, batch, rate, seed)
    spec = motion_net_spec(network, recipe, stack, size_px, split, train, validation)
    train_motion(spec, train, validation, out, resume, workers, cache)


def motion_recipe(
    network: NetworkName,
    teacher: TeacherName,
    drift: float,
    steps: int,
    batch: int,
    rate: float | None,
    seed: int,
) -> MotionRecipe:
    """rate: None is that of the network. See MotionRecipe for the others."""
    from train.models.motion_checkpoint import MotionRecipe

    return MotionRecipe(
        seed=seed,
        steps=steps,
        batch=batch,
        rate=rate or RATES[network],
        clip_norm=CLIP_NORM,
        smoothness=SMOOTHNESS,
        teacher=teacher,
        drift=drift,
        scales=SCALES,
        still=STILL,
    )


def motion_net_spec(
    network: str,
    recipe: MotionRecipe,
    stack: int,
    size_px: int,
    split: int,
    train: list[Clip],
    validation: list[Clip],
) -> MotionNetSpec:
    """Of a network of motion for stacks of `stack` flows and views of `size_px`. Raises DataError
    for a size that is odd."""
    from edge.errors import DataError
    from edge.inputs.luma_stack import LumaStackInput
    from edge.motion.spec import PRESETS
    from train.models.motion_checkpoint import MotionNetSpec
    from train.models.spec import FLOW_NORMALISATION
    from train.streams import training_view

    if size_px % 2:
        raise DataError(f"--size-px {size_px}: give an even number")
    interval_s = PRESETS["fast"].interval_s
    return MotionNetSpec(
        network=network,
        geometry=training_view((size_px, size_px)),
        input=LumaStackInput(kind="luma_stack", frames=stack + 1, interval_s=interval_s),
        normalisation=FLOW_NORMALISATION,
        split=split,
        train_clips=tuple(clip.name for clip in train),
        validation_clips=tuple(clip.name for clip in validation),
        recipe=recipe,
    )


def train_motion(
    spec: MotionNetSpec,
    train: list[Clip],
    validation: list[Clip],
    out: Path,
    resume: bool,
    workers: int,
    cache: Path,
) -> Path:
    """Train a network of motion on clips; returns its checkpoint, in `out`. Raises as
    MotionTraining does."""
    from train.data.cache import ClipCache, fill_cache
    from train.models.malloc import keep_freed_memory
    from train.training.motion import MotionRun, MotionTraining, teacher_of

    keep_freed_memory()
    teacher = teacher_of(spec.recipe)
    motions = () if teacher is None else (teacher,)
    store = ClipCache(cache, spec.geometry, spec.input.interval_s, motions)
    history = spec.input.history
    cached = fill_cache(store, train, history)
    held_out = fill_cache(store, validation, history)
    training = MotionTraining(cached, spec, MotionRun(out, resume, workers))
    count, held = len(cached), len(held_out)
    logger.info("%s: %d clips to train on, %d held out", spec.network, count, held)
    file, fit = training(held_out)
    if fit is not None:
        logger.info(
            "photometric loss of %d stacks that were held out: %.4f; of no motion: %.4f",
            fit.stacks,
            fit.loss,
            fit.no_motion,
        )
    logger.info("wrote %s", file)
    return file
