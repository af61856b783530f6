"""`twostream train`. Imports torch only once the command runs."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.errors import DataError
from edge.inputs.flow_stack import FlowInput
from edge.inputs.luma_stack import LumaStackInput
from edge.log import silence
from edge.spec import Spec
from edge.text import NO_CLASS
from train.commands.arguments import (
    Cache,
    Changes,
    Classes,
    Data,
    Motion,
    RecipeName,
    changes_for,
    class_list,
    motion_spec,
    named_as_trained,
)
from train.streams import STREAMS, LearnedMotion

if TYPE_CHECKING:
    from train.recipe import Recipe
    from train.training.job import Job

logger = logging.getLogger(__name__)


def train_command(
    context: typer.Context,
    stream: Annotated[str, typer.Argument(help="Stream to train: spatial or temporal.")],
    data: Data,
    classes: Classes = "",
    split: Annotated[int, typer.Option(help="Official split, 1 to 3.")] = 1,
    recipe: RecipeName = "default",
    changes: Changes = None,
    out: Annotated[Path, typer.Option(help="Folder in which the run folder is created.")] = Path(
        "work"
    ),
    resume: Annotated[
        str, typer.Option(help="auto: resume the run if there is one; or the run folder to resume.")
    ] = "",
    motion: Motion = "fast",
    negatives: Annotated[
        Path | None,
        typer.Option(
            help="Folder of videos without any of the actions; half of them is trained on, the "
            "rest is left to export."
        ),
    ] = None,
    qat: Annotated[
        Path | None,
        typer.Option(help="Checkpoint or run folder to fine-tune quantisation-aware, for INT8."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Data loading processes; default: by cores.")
    ] = None,
    save_every: Annotated[
        float, typer.Option(min=0, help="Seconds between saves of the state to resume from.")
    ] = 300.0,
    keep: Annotated[
        int, typer.Option(min=1, help="Number of newest checkpoints to keep besides the best.")
    ] = 3,
    cache: Cache = Path("work/cache"),
) -> None:
    """Train the network of one stream; under torchrun on several GPUs or machines.

    The best checkpoint is chosen on validation clips, which are held out by group from the training
    list. Test clips are not read. With --classes, clips of all other classes are negatives.
    """
    from train.data.dataset import open_dataset
    from train.data.enough import missing_for_bundle, unjudged_classes
    from train.data.folders import footage_clips
    from train.data.splits import footage_to_train, hold_out
    from train.recipe import load_recipe

    if os.environ.get("RANK", "0") != "0":  # only the leading process logs
        silence()
    if stream not in STREAMS:
        raise DataError(f"stream {stream!r} does not exist; give {' or '.join(STREAMS)}")
    method: Spec = motion_spec(motion)
    if qat is None:
        given = changes_for(stream, tuple(changes or ()), method)
        settings = load_recipe(recipe, stream, given)
    else:
        settings, method, classes = _fine_tuning(context, qat, stream, method, changes or [])
    dataset = open_dataset(data, split)  # before the slow imports, to report a wrong path at once
    names = class_list(classes, {clip.label for clip in dataset.train})
    train, validation = hold_out(dataset.train, names, settings.validation.fraction)
    footage = [] if negatives is None else footage_to_train(footage_clips(negatives))
    from train.training.job import Job, JobOptions, run_job

    job = Job(stream, names, split, [*train, *footage], validation, settings, method)
    _log_clips(job, len(dataset.missing))
    for lack in missing_for_bundle(train, validation, dataset.test, names):
        logger.warning("no bundle can be made of these clips: %s", lack)
    for doubt in unjudged_classes(train, validation, dataset.test, names):
        logger.warning("%s", doubt)
    options = JobOptions(out, resume, workers, save_every, keep, cache)
    logger.info("best checkpoint: %s", run_job(job, options))


def _refuse_ignored(context: typer.Context) -> None:
    """Raises DataError for an option that --qat would ignore."""
    for name in ("recipe", "motion", "classes"):
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            raise DataError(
                f"--{name}: --qat takes it from the checkpoint; leave it away (--set changes "
                "single values of the recipe)"
            )


def _log_clips(job: Job, missing: int) -> None:
    logger.info(
        "%s: %d clips to train on (%d of other classes, %d of footage), %d to validate on, "
        "%d listed clips not on disk",
        job.stream,
        len(job.train),
        sum(clip.label not in (*job.classes, NO_CLASS) for clip in job.train),
        sum(clip.label == NO_CLASS for clip in job.train),
        sum(clip.label in job.classes for clip in job.validation),
        missing,
    )


def _fine_tuning(
    context: typer.Context, trained: Path, stream: str, method: Spec, changes: list[str]
) -> tuple[Recipe, Spec, str]:
    """The recipe, motion method and classes of a quantisation-aware fine-tuning of a checkpoint."""
    _refuse_ignored(context)
    from train.models.checkpoint import find_checkpoint, read_metadata, read_spec
    from train.recipe import parse_recipe, quantisation_aware

    file = find_checkpoint(trained)
    metadata = read_metadata(file)
    spec = read_spec(file, metadata)
    named_as_trained(file, spec.stream, stream)
    try:
        recipe = quantisation_aware(parse_recipe(metadata["recipe"]), file, tuple(changes))
    except (KeyError, ValueError) as error:
        raise DataError(f"{file}: its recipe cannot be used for fine-tuning ({error})") from None
    motion = spec.input.motion or method
    if isinstance(spec.input, LumaStackInput):
        motion = LearnedMotion(
            method="network",
            network=spec.backbone.partition("+")[0],
            checkpoint="",
            frames=spec.input.frames,
            interval_s=spec.input.interval_s,
        )
    stacks = isinstance(spec.input, (FlowInput, LumaStackInput))
    if stacks and spec.input.history != recipe.sampling.stack:
        raise DataError(
            f"{file}: was trained on stacks of {spec.input.history} flows; do not set "
            "sampling.stack"
        )
    return recipe, motion, ",".join(spec.classes)
