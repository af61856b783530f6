"""`twostream actions train`: takes of own actions to a bundle. Imports torch only once it runs.

The networks are ImageNet's with classifiers for these actions (recipe few-takes). They are trained
on all takes. What judges them, and what the decision is fitted on, are networks of the same kind
that were trained without the take in question.
"""

from __future__ import annotations

import logging
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edge.errors import DataError
from edge.text import BACKGROUND
from export.cli import FALSE_ALARMS
from train.commands.arguments import Cache, Changes, Classes, class_list
from train.streams import FUSED, STREAMS

if TYPE_CHECKING:
    from edge.bundle.network import NetworkSpec
    from export.package import ExportData, Exported
    from export.takes import Estimate
    from train.data.clips import Clip, Split
    from train.training.leave_one_out import LeftOut

logger = logging.getLogger(__name__)

RECIPE = "few-takes"
CALIBRATION_CLIPS = 24
RANGES: Literal["mse"] = "mse"  # trying all methods takes as long as everything else together


@dataclass(frozen=True, slots=True)
class _Places:
    """work: folder of runs and ONNX files. cache: of frames and flow. out: the bundle."""

    work: Path
    cache: Path
    out: Path


def actions_train_command(
    clips: Annotated[
        Path, typer.Argument(help=f"Takes: a folder for each action, and one named {BACKGROUND}.")
    ],
    out: Annotated[Path, typer.Argument(help="Bundle folder to write.")],
    classes: Classes = "",
    changes: Changes = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Write the bundle even if INT8 loses accuracy.")
    ] = False,
    work: Annotated[Path, typer.Option(help="Folder of checkpoints and FP32 ONNX files.")] = Path(
        "work/actions"
    ),
    cache: Cache = Path("work/cache"),
) -> None:
    """Make a bundle of your own actions: train, judge by leave-one-take-out, quantise, export.

    Without --classes all folders are actions but the background; with it, what is in all others is
    none. It takes some minutes on two cores, and needs no GPU.
    """
    from export.package import check_target
    from export.takes import check_takes, streams_that_tell
    from train.data.dataset import open_dataset

    began_s = time.monotonic()
    check_target(out)
    dataset = open_dataset(clips, 1)
    everything = (*dataset.train, *dataset.test)
    names = class_list(classes, {clip.label for clip in everything} - _none_of_them(classes))
    check_takes(clips, dataset, names)
    name = f"{out.resolve().name}.networks"  # never the bundle itself, whatever --work is
    places = _Places(work / name, cache, out)
    left_out = {s: _train(s, dataset, names, tuple(changes or ()), places) for s in STREAMS}
    estimates = _estimate(left_out, everything, names)
    for stream in set(left_out) - set(streams_that_tell(estimates, names)):
        text = "%s recognises %s, no better than guessing; the bundle does without it"
        logger.warning(text, stream, estimates[stream])
        del left_out[stream]
    estimates = _estimate(left_out, everything, names)
    result = _export(dataset, left_out, estimates, places, accept_loss)
    _log_results(result, estimates, time.monotonic() - began_s)


def _none_of_them(classes: str) -> set[str]:
    return set() if classes else {BACKGROUND}


def _train(
    stream: str, dataset: Split, names: tuple[str, ...], changes: tuple[str, ...], places: _Places
) -> LeftOut:
    from edge.motion.spec import PRESETS
    from train.recipe import load_recipe
    from train.training.job import Job, JobOptions, run_leave_one_out

    recipe = load_recipe(RECIPE, stream, changes)
    if recipe.optimiser.kind != "lbfgs":
        raise DataError("--set optimiser.kind: `actions train` trains classifiers alone, by lbfgs")
    clips = [*dataset.train, *dataset.test]
    job = Job(stream, names, dataset.number, clips, [], recipe, PRESETS["fast"])
    logger.info("%s: a classifier, and one without each take", stream)
    options = JobOptions(places.work, "auto", None, 0.0, 1, places.cache)
    return run_leave_one_out(job, options)


def _estimate(
    left_out: dict[str, LeftOut], clips: Sequence[Clip], names: tuple[str, ...]
) -> dict[str, Estimate]:
    from export.takes import estimate

    logits = {stream: one.logits for stream, one in left_out.items()}
    usable = set.intersection(*(set(by_clip) for by_clip in logits.values()))
    return estimate(logits, [clip for clip in clips if clip.name in usable], names)


def _export(
    dataset: Split,
    left_out: dict[str, LeftOut],
    estimates: dict[str, Estimate],
    places: _Places,
    accept_loss: bool,
) -> Exported:
    from export.package import ExportOptions, load_networks, write_bundle
    from export.page import write_page

    files = {stream: one.checkpoint for stream, one in left_out.items()}
    networks = load_networks(files)
    specs = [spec for _, spec in networks.values()]
    data = _export_data(dataset, specs, left_out, places)
    options = ExportOptions(CALIBRATION_CLIPS, 1, RANGES, FALSE_ALARMS, accept_loss)
    judged = {name: each.to_json() for name, each in estimates.items()}
    result = write_bundle(networks, data, places.out, options, {"leave_one_take_out": judged})
    write_page(result, data.test, files, f"twostream {shlex.join(sys.argv[1:])}")
    return result


def _export_data(
    dataset: Split, specs: list[NetworkSpec], left_out: dict[str, LeftOut], places: _Places
) -> ExportData:
    """The decision is fitted on two thirds of the takes, and reported on the others."""
    from export.package import ExportData
    from export.takes import share_out
    from train.data.cache import fill_cache, open_cache

    store = open_cache(places.cache, *specs)
    clips = (*dataset.train, *dataset.test)
    cached = fill_cache(store, list(clips), max(spec.input.history for spec in specs))
    parts = share_out(cached, specs[0].classes)
    own = [[clip for clip in part if clip.clip.label in specs[0].classes] for part in parts]
    others = [[clip for clip in part if clip.clip.label not in specs[0].classes] for part in parts]
    changes = {
        (stream, name): change
        for stream, one in left_out.items()
        for name, change in one.changes.items()
    }
    return ExportData(
        *(clips, places.work, store, own[0], others[0], own[1], others[1]),
        footage=[],
        parity_video=_parity_video(places.work),
        recurrent=None,
        left_out=changes,
    )


def _parity_video(work: Path) -> Path:
    """The bundle holds its frames, so they are not of the takes, which show people."""
    from export.generated import write_generated

    video = work / "parity.mp4"
    write_generated(video, ["jump", "wave"], 1.0, seed=1)
    return video


def _log_results(result: Exported, estimates: dict[str, Estimate], seconds: float) -> None:
    for name, each in estimates.items():
        logger.info("%-9s recognises %s that it was trained without", name, each)
    by_class = estimates[FUSED].by_class
    logger.info("%s", ", ".join(f"{label} {count}" for label, count in by_class.items()))
    spec = result.bundle.manifest.decision
    if spec.test is not None:
        logger.info(
            "live, on takes that neither networks nor threshold were fitted to: the right label in "
            "%.0f%% of all moments, a wrong one in %.0f%%; of the background a label in %.0f%%",
            *(100 * each.share for each in (spec.test.right, spec.test.wrong, spec.test.other)),
        )
        if spec.test.other.share > 2 * FALSE_ALARMS:
            logger.warning(
                "more than the %.0f%% wanted: record more %s, as varied as what the camera sees",
                100 * FALSE_ALARMS,
                BACKGROUND,
            )
    page = result.bundle.path.with_name(f"{result.bundle.path.name}.html")
    logger.info("wrote %s and %s in %.0f s", result.bundle.path, page, seconds)
    logger.info("now: twostream run %s SOURCE", result.bundle.path)
