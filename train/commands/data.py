"""`twostream data check` and `twostream flow`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edge.terminal import track
from edge.text import print_line
from train.commands.arguments import Data, Flow, RecipeName, flow_preset

if TYPE_CHECKING:
    from train.data.clips import Clip

SHOWN = 10  # names of each kind of fault
SIZE_HW = 224, 224

Split = Annotated[int, typer.Option(help="Official split, 1 to 3.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; one a core by default.")]


def data_command(
    action: Annotated[Literal["check"], typer.Argument(help="check: list what is wrong.")],
    data: Data,
    split: Split = 1,
    recipe: RecipeName = "default",
    every: Annotated[
        bool, typer.Option("--all", help="Name every clip, not the first few.")
    ] = False,
    workers: Workers = None,
) -> None:
    """Look through a data set; exit code 0 if nothing is wrong with it, else 1.

    A clip is too short where it has no moment for a stack of the recipe's.
    """
    from train.data.check import check_dataset
    from train.recipe import load_recipe

    stack = load_recipe(recipe, "temporal").sampling.stack
    found, findings = check_dataset(data, split, stack, workers or _cores())
    print_line(
        f"{data}: {len(found.train)} clips to train on, {len(found.test)} to test on, "
        f"{len({clip.label for clip in (*found.train, *found.test)})} classes"
    )
    for finding in findings:
        print_line(f"{finding.kind}: {len(finding.names)}")
        shown = finding.names if every else finding.names[:SHOWN]
        for name in shown:
            print_line(f"  {name}")
        if len(shown) < len(finding.names):
            print_line(f"  and {len(finding.names) - len(shown)} more (--all)")
    wrong = [finding for finding in findings if not finding.harmless]
    print_line(f"{sum(len(f.names) for f in wrong)} faults" if wrong else "nothing is wrong")
    sys.exit(1 if wrong else 0)


def flow_command(
    data: Data,
    out: Annotated[Path, typer.Argument(help="Folder of the flow, made or gone on with.")],
    split: Split = 1,
    flow: Flow = "fast",
    workers: Workers = None,
    ray: Annotated[
        str | None,
        typer.Option(help="Work on a Ray cluster: local, auto or HOST:PORT."),
    ] = None,
) -> None:
    """Write the TV-L1 flow of a data set as pictures, as other two-stream projects read it.

    Stopped, it goes on where it was when it is called again. Exit code 1 if a clip could not be
    read.
    """
    from train.data.dataset import open_dataset
    from train.data.flow_images import extract_or_say, is_extracted, open_flow_folder
    from train.streams import training_view

    spec, geometry = flow_preset(flow), training_view(SIZE_HW)
    part = open_dataset(data, split)
    clips = [*part.train, *part.test]
    open_flow_folder(out, geometry, spec)
    todo = [clip for clip in clips if not is_extracted(clip, out)]
    work = partial(extract_or_say, out=out.resolve(), geometry=geometry, flow=spec)
    found: Iterator[int | str]
    if ray is None:
        found = _in_processes(work, todo, workers or _cores())
    else:
        from train.data.ray_map import map_on_cluster

        found = (result for _, result in map_on_cluster(work, todo, ray))
    results = list(track(found, "flow", total=len(todo)))
    faults = [result for result in results if isinstance(result, str)]
    flows = sum(result for result in results if isinstance(result, int))
    print_line(
        f"{out}: {flows} flows of {len(todo) - len(faults)} clips written, "
        f"{len(clips) - len(todo)} clips were there already, {len(faults)} cannot be used"
    )
    for fault in faults:
        print_line(f"  {fault}")
    sys.exit(1 if faults else 0)


def _in_processes(
    work: Callable[[Clip], int | str], clips: list[Clip], workers: int
) -> Iterator[int | str]:
    with ProcessPoolExecutor(workers) as pool:
        try:
            yield from pool.map(work, clips)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _cores() -> int:
    return len(os.sched_getaffinity(0))
