"""`twostream crossval`. Imports torch only once the command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.text import print_line
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
)
from train.streams import STREAMS


def crossval_command(
    data: Data,
    classes: Classes = "",
    folds: Annotated[int, typer.Option(min=2, help="Number of folds.")] = 3,
    seeds: Annotated[
        int,
        typer.Option(min=1, help="Train all folds with so many seeds: how much chance alone does."),
    ] = 1,
    recipe: RecipeName = "default",
    changes: Changes = None,
    motion: Motion = "fast",
    out: Annotated[
        Path, typer.Option(help="Folder in which the folds' run folders are created.")
    ] = Path("work/crossval"),
    report: Annotated[Path | None, typer.Option(help="Save the results: .json.")] = None,
    cache: Cache = Path("work/cache"),
) -> None:
    """Cross-validate a recipe by group: top-1 of each stream and of their mean scores.

    All clips of the data set are divided into folds. A run that was stopped continues when it is
    called again.
    """
    from train.data.dataset import open_dataset
    from train.recipe import load_recipe

    spec, given = motion_spec(motion), tuple(changes or ())
    recipes = {
        stream: load_recipe(recipe, stream, changes_for(stream, given, spec)) for stream in STREAMS
    }
    dataset = open_dataset(data, 1)
    names = class_list(classes, {clip.label for clip in dataset.train})
    from train.json_file import write_json
    from train.training.crossval import Trial, cross_validate
    from train.training.job import JobOptions

    options = JobOptions(out, "auto", None, 300.0, 1, cache)
    trial = Trial(names, (*dataset.train, *dataset.test), recipes, spec, folds, seeds)
    results = cross_validate(trial, options)
    for name, row in results["top1"].items():
        print_line(
            f"{name:9} top-1 {row['mean']:.4f} +- {row['deviation']:.4f} between folds "
            f"{row['folds']}"
        )
        if seeds > 1:
            spread = f"+- {row['deviation_of_seeds']:.4f} between seeds {row['seeds']}"
            print_line(f"{'':9}              {spread}")
    if report is not None:
        write_json(report, results)
