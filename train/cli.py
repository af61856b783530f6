"""`twostream train`, and what the other commands share. Imports torch only once a command runs."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from pydantic import TypeAdapter, ValidationError

from edge.errors import DataError
from edge.flow.spec import PRESETS, FlowSpec
from edge.log import silence
from edge.network import STREAMS, Stream
from edge.spec import first_fault
from edge.text import ClassName, same_name

if TYPE_CHECKING:
    from train.recipe import Recipe

logger = logging.getLogger(__name__)

Data = Annotated[Path, typer.Argument(help="UCF101, its frames, folders of your own, or a CSV.")]
Cache = Annotated[Path, typer.Option(help="Where analysed frames and flow are kept.")]
Classes = Annotated[str, typer.Option(help="Class names, separated by commas; all by default.")]
RecipeName = Annotated[
    str, typer.Option(help="Name of a recipe that comes with twostream, or a .toml file.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="Change a value of the recipe; repeatable."
    ),
]
Flow = Annotated[str, typer.Option(help="TV-L1 preset: fast or accurate.")]


def train_command(
    stream: Annotated[str, typer.Argument(help="spatial or temporal")],
    data: Data,
    classes: Classes = "",
    split: Annotated[int, typer.Option(help="Official split, 1 to 3.")] = 1,
    recipe: RecipeName = "default",
    changes: Changes = None,
    out: Annotated[Path, typer.Option(help="The run's own folder is made in it.")] = Path("work"),
    resume: Annotated[
        str, typer.Option(help="auto: go on where this run stopped; or the folder of a run.")
    ] = "",
    flow: Flow = "fast",
    qat: Annotated[
        Path | None,
        typer.Option(help="Fine-tune this checkpoint (or run's best) with the rounding of INT8."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that make samples; chosen by default.")
    ] = None,
    save_every: Annotated[
        float, typer.Option(min=0, help="Seconds between saved states: what a kill may cost.")
    ] = 300.0,
    keep: Annotated[int, typer.Option(min=1, help="Newest checkpoints kept beside the best.")] = 3,
    cache: Cache = Path("work/cache"),
) -> None:
    """Train one stream by a recipe; under torchrun on several GPUs or machines.

    The checkpoint is chosen on a validation part cut by group from the training list; the test
    list is not read. With --classes, training clips of all other classes teach the network what
    none of them looks like.
    """
    from train.dataset import open_dataset
    from train.parts import hold_out
    from train.recipe import load_recipe

    if os.environ.get("RANK", "0") != "0":  # of several processes of torchrun one speaks
        silence()
    if stream not in STREAMS:
        raise DataError(f"stream {stream!r} does not exist; train spatial or temporal")
    preset = flow_preset(flow)
    if qat is None:
        chosen = load_recipe(recipe, cast(Stream, stream), tuple(changes or ()))
    else:
        chosen, preset, classes = _fine_tuning(qat, stream, tuple(changes or ()))
    part = open_dataset(data, split)  # before the slow imports: a wrong path is told at once
    names = class_list(classes, {clip.label for clip in part.train})
    train, validation = hold_out(part.train, names, chosen.validation.fraction)
    from train.job import Job, JobOptions, run_job

    logger.info(
        "%s: %d clips to train on (%d of other classes), %d to choose by, "
        "%d listed clips not on disk",
        stream,
        len(train),
        sum(clip.label not in names for clip in train),
        sum(clip.label in names for clip in validation),
        len(part.missing),
    )
    job = Job(cast(Stream, stream), names, split, train, validation, chosen, preset)
    options = JobOptions(out, resume, workers, save_every, keep, cache)
    logger.info("best checkpoint: %s", run_job(job, options))


def _fine_tuning(
    trained: Path, stream: str, changes: tuple[str, ...]
) -> tuple[Recipe, FlowSpec, str]:
    """The recipe, flow and classes of going on from a checkpoint with the rounding of INT8."""
    from train.checkpoint import find_checkpoint, read_metadata, read_spec
    from train.recipe import Recipe, quantisation_aware

    file = find_checkpoint(trained)
    metadata = read_metadata(file)
    spec = read_spec(file, metadata)
    if spec.stream != stream:
        raise DataError(f"{file}: is a {spec.stream} checkpoint, not a {stream} one")
    recipe = Recipe.model_validate_json(metadata["recipe"])
    return quantisation_aware(recipe, file, changes), spec.flow, ",".join(spec.classes)


def flow_preset(name: str) -> FlowSpec:
    """Raises DataError where there is none of that name."""
    if name not in PRESETS:
        raise DataError(f"flow preset {name!r} does not exist; presets: {', '.join(PRESETS)}")
    return PRESETS[name]


def class_list(text: str, known: set[str]) -> tuple[str, ...]:
    """The classes asked for, by name; no text: all that are known. Raises DataError where there is
    none of that name, fewer than two, and for names that no bundle can have."""
    if not text:
        return _checked(tuple(sorted(known)))
    names = tuple(sorted({name.strip() for name in text.split(",") if name.strip()}))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DataError(
            f"no training clips of {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        )
    return _checked(names)


def _checked(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) < 2:
        raise DataError("two classes or more are needed")
    seen: dict[str, str] = {}
    for name in names:
        try:
            TypeAdapter(ClassName).validate_python(name)
        except ValidationError as error:
            raise DataError(f"{first_fault(error, f'class {name[:80]!r}')}; rename it") from None
        other = seen.setdefault(same_name(name), name)
        if other != name:
            raise DataError(f"classes {other!r} and {name!r} look alike; rename one")
    return names
