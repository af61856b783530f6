"""`twostream data check` and `twostream flow`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edge.errors import DataError
from edge.terminal import track
from edge.text import counted, print_line
from train.commands.arguments import (
    Classes,
    Data,
    Motion,
    RecipeName,
    class_list,
    measured_motion,
)

if TYPE_CHECKING:
    from edge.video.frames import Geometry
    from train.data.check import Checked
    from train.data.clips import Clip
    from train.data.flow_images import ShortSide

LISTED = 10  # clip names listed for each kind of fault
SIZE_HW = 224, 224  # of the frames that `twostream flow` measures

Split = Annotated[int, typer.Option(help="Official split, 1 to 3.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Worker processes; default: one per core.")
]


def data_command(
    action: Annotated[
        Literal["check"], typer.Argument(help="check: list the faults of the data set.")
    ],
    data: Data,
    split: Split = 1,
    classes: Classes = "",
    recipe: RecipeName = "default",
    every: Annotated[
        bool, typer.Option("--all", help="List all clips with a fault, not only ten of each kind.")
    ] = False,
    workers: Workers = None,
) -> None:
    """List the faults of a data set, such as damaged clips. Exit code 1 if there are any.

    A clip is too short if it has fewer frames than a flow stack of the recipe needs. What a bundle
    of the classes would lack is told, too, and is no fault.
    """
    from edge.motion.spec import PRESETS
    from train.data.check import check_dataset
    from train.recipe import load_recipe

    settings = load_recipe(recipe, "temporal")
    checked = check_dataset(
        data, split, settings.sampling.stack, PRESETS["fast"].interval_s, workers or _cores()
    )
    dataset = checked.split
    print_line(
        f"{data}: {counted(len(dataset.train), 'clip')} to train on, {len(dataset.test)} to test "
        f"on; classes: {len({clip.label for clip in (*dataset.train, *dataset.test)})}"
    )
    for finding in checked.findings:
        print_line(f"{finding.kind}: {len(finding.names)}")
        listed = finding.names if every else finding.names[:LISTED]
        for name in listed:
            print_line(f"  {name}")
        if len(listed) < len(finding.names):
            print_line(f"  and {len(finding.names) - len(listed)} more (--all)")
    faults = sum(len(finding.names) for finding in checked.findings if not finding.harmless)
    try:
        names = class_list(classes, {clip.label for clip in dataset.train})
    except DataError as error:
        if classes:
            raise
        print_line(f"it cannot be trained on: {error}")
        sys.exit(1)
    lacks = _lacks(checked, names, settings.validation.fraction)
    if faults:
        print_line(counted(faults, "fault"))
    else:
        print_line("no clip has a fault" if lacks else "nothing is wrong")
    sys.exit(1 if faults else 0)


def _lacks(checked: Checked, names: tuple[str, ...], fraction: float) -> bool:
    """Whether something would be lacking for a bundle of the clips that can be used; it is told."""
    from train.data.enough import missing_for_bundle, unjudged_classes
    from train.data.splits import hold_out

    parts = *hold_out(checked.split.train, names, fraction), checked.split.test
    train, validation, test = map(checked.usable, parts)
    lacks = missing_for_bundle(train, validation, test, names)
    for lack in lacks:
        print_line(f"no bundle can be made of it: {lack}")
    doubts = unjudged_classes(train, validation, test, names)
    for doubt in doubts:
        print_line(doubt)
    return bool(lacks or doubts)


def flow_command(
    data: Data,
    out: Annotated[Path, typer.Argument(help="Output folder; an unfinished one is continued.")],
    split: Split = 1,
    motion: Motion = "fast",
    short_side: Annotated[
        int | None,
        typer.Option(
            min=32,
            max=512,
            help="Keep each clip's shape, with a shorter side of this many px (other projects: "
            "256); default: 224 x 224, as in training here.",
        ),
    ] = None,
    workers: Workers = None,
    ray: Annotated[
        str | None,
        typer.Option(help="Run on a Ray cluster: local, auto or HOST:PORT."),
    ] = None,
) -> None:
    """Write the flow of a data set as images, in the layout of other two-stream projects.

    A run that was stopped continues when it is called again. Exit code 1 if a clip cannot be read.
    """
    from train.data.dataset import open_dataset
    from train.data.flow_images import (
        extract_or_explain,
        folder_names,
        is_extracted,
        open_flow_folder,
    )

    spec, geometry = measured_motion(motion), _flow_size(short_side)
    dataset = open_dataset(data, split)
    clips = [*dataset.train, *dataset.test]
    open_flow_folder(out, geometry, spec)
    jobs = list(zip(clips, folder_names(clips), strict=True))
    missing = [(clip, name) for clip, name in jobs if not is_extracted(name, out)]
    work = partial(extract_or_explain, out=out.resolve(), geometry=geometry, flow=spec)
    outcomes: Iterator[int | str]  # the number of flows of a clip, or an error
    if ray is None:
        outcomes = _in_processes(work, missing, workers or _cores())
    else:
        from train.data.ray_map import map_on_cluster

        outcomes = (outcome for _, outcome in map_on_cluster(work, missing, ray))
    results = list(track(outcomes, "flow", total=len(missing)))
    faults = [result for result in results if isinstance(result, str)]
    flows = sum(result for result in results if isinstance(result, int))
    print_line(
        f"{out}: {flows} flows of {len(missing) - len(faults)} clips written, "
        f"{len(clips) - len(missing)} clips already there, {len(faults)} cannot be used"
    )
    for fault in faults:
        print_line(f"  {fault}")
    sys.exit(1 if faults else 0)


def _flow_size(short_side: int | None) -> Geometry | ShortSide:
    from train.data.flow_images import ShortSide
    from train.streams import training_view

    if short_side is None:
        return training_view(SIZE_HW)
    if short_side % 2:
        raise DataError(f"--short-side {short_side}: give an even number")
    return ShortSide(short_side_px=short_side, interpolation="area")


def _in_processes(
    work: Callable[[tuple[Clip, str]], int | str], jobs: list[tuple[Clip, str]], workers: int
) -> Iterator[int | str]:
    from edge.video.isolation import Death, map_apart

    for (clip, _), result in zip(jobs, map_apart(work, jobs, workers), strict=True):
        yield f"{clip.path}: {result.reason}" if isinstance(result, Death) else result


def _cores() -> int:
    return len(os.sched_getaffinity(0))
