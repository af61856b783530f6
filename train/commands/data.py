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

SHOWN = 10  # clip names listed for each kind of fault
SIZE_HW = 224, 224

Split = Annotated[int, typer.Option(help="Official split, 1 to 3.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core.")]


def data_command(
    action: Annotated[Literal["check"], typer.Argument(help="check: list the faults.")],
    data: Data,
    split: Split = 1,
    recipe: RecipeName = "default",
    every: Annotated[
        bool, typer.Option("--all", help="List every clip, not only the first few.")
    ] = False,
    workers: Workers = None,
) -> None:
    """Check a data set; exit code 0 if there are no faults, else 1.

    A clip is too short if it has fewer frames than a flow stack of the recipe needs.
    """
    from train.data.check import check_dataset
    from train.recipe import load_recipe

    stack = load_recipe(recipe, "temporal").sampling.stack
    dataset, findings = check_dataset(data, split, stack, workers or _cores())
    print_line(
        f"{data}: {len(dataset.train)} clips to train on, {len(dataset.test)} to test on, "
        f"{len({clip.label for clip in (*dataset.train, *dataset.test)})} classes"
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
    out: Annotated[Path, typer.Argument(help="Output folder; an earlier one is continued.")],
    split: Split = 1,
    flow: Flow = "fast",
    workers: Workers = None,
    ray: Annotated[
        str | None,
        typer.Option(help="Run on a Ray cluster: local, auto or HOST:PORT."),
    ] = None,
) -> None:
    """Write the TV-L1 flow of a data set as images, in the layout of other two-stream projects.

    If it was stopped, call it again to continue. Exit code 1 if a clip could not be read.
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
    counts: Iterator[int | str]
    if ray is None:
        counts = _in_processes(work, todo, workers or _cores())
    else:
        from train.data.ray_map import map_on_cluster

        counts = (result for _, result in map_on_cluster(work, todo, ray))
    results = list(track(counts, "flow", total=len(todo)))
    faults = [result for result in results if isinstance(result, str)]
    flows = sum(result for result in results if isinstance(result, int))
    print_line(
        f"{out}: {flows} flows of {len(todo) - len(faults)} clips written, "
        f"{len(clips) - len(todo)} clips already there, {len(faults)} cannot be used"
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
