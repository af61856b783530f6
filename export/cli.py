"""`twostream export`: checkpoints to a bundle. Imports torch only once the command runs."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.errors import DataError
from export.calibrate import Ranges
from train.commands.arguments import Cache, Networks, measured_motion, networks_by_name
from train.streams import FUSED, STREAMS

logger = logging.getLogger(__name__)

FALSE_ALARMS = 0.01  # accepted share of moments of other actions with a label

if TYPE_CHECKING:
    from edge.bundle.network import NetworkSpec
    from export.package import ExportData, Exported
    from export.recurrent import RecurrentFile
    from train.data.clips import Clip
    from train.evaluation.held_out import Seen


def export_command(
    data: Annotated[Path, typer.Argument(help="Data set that the checkpoints were trained on.")],
    out: Annotated[Path, typer.Argument(help="Bundle folder to write.")],
    parity_video: Annotated[
        Path,
        typer.Option(help="Video to take parity samples from; the bundle holds its frames."),
    ],
    networks: Networks = None,
    fusion: Annotated[
        Path | None,
        typer.Option(
            help="Recurrent fusion of `twostream fuse --out`, taken if validation says so."
        ),
    ] = None,
    work: Annotated[
        Path, typer.Option(help="Folder of the runs, where FP32 ONNX files are written.")
    ] = Path("work"),
    clips: Annotated[int, typer.Option(min=1, help="Training clips to calibrate on.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for choosing clips.")] = 1,
    ranges: Ranges = "auto",
    false_alarms: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Accepted share of moments of other actions with a label; default: 0.01.",
        ),
    ] = None,
    no_unknown: Annotated[
        bool,
        typer.Option(
            "--no-unknown",
            help="Always show the best class, never unknown: for data without other actions.",
        ),
    ] = False,
    negatives: Annotated[
        Path | None,
        typer.Option(
            help="Folder of videos without any of the actions; nothing may be reported in them."
        ),
    ] = None,
    live_motion: Annotated[
        str | None,
        typer.Option(
            help="Motion that a network of published flow sees in live runs: quick, fast ...; "
            "without it such a network is refused."
        ),
    ] = None,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss",
            help="Write the bundle even if INT8 loses accuracy or a network only guesses.",
        ),
    ] = False,
    measured: Annotated[
        Path | None, typer.Option(help="Benchmark JSON to include in the report.")
    ] = None,
    beside: Annotated[
        Path | None,
        typer.Option(
            help="Earlier bundle to show beside this one on its page; may be the one replaced."
        ),
    ] = None,
    cache: Cache = Path("work/cache"),
) -> None:
    """Write a bundle (INT8 networks, decision, parity samples, report) and a page about it.

    Networks are calibrated on training clips, the decision is fitted on validation clips, and test
    clips are only reported on.
    """
    if not parity_video.is_file():  # before the slow imports, to report it at once
        raise DataError(f"{parity_video}: no such video; give one that may be published")
    from export.live_motion import with_live_motion
    from export.package import ExportOptions, check_target, load_networks, write_bundle
    from export.page import read_figures, write_page
    from export.recurrent import load_for
    from train.evaluation.held_out import seen_by
    from train.models.checkpoint import find_checkpoint
    from train.training.run_folder import only_run

    check_target(out)
    earlier = None if beside is None else read_figures(beside)
    if no_unknown and (negatives is not None or false_alarms is not None):
        name = "--negatives" if negatives is not None else "--false-alarms"
        raise DataError(f"{name}: is for the threshold of unknown, which --no-unknown leaves out")
    accepted = None if no_unknown else FALSE_ALARMS if false_alarms is None else false_alarms
    extra = {"benchmarks": json.loads(measured.read_text(encoding="utf-8"))} if measured else {}
    files = networks_by_name(networks) or {name: only_run(work, name) for name in STREAMS}
    loaded = load_networks(files)
    live = None if live_motion is None else (live_motion, measured_motion(live_motion))
    loaded = with_live_motion(loaded, files, live)
    specs = [spec for _, spec in loaded.values()]
    recurrent = None if fusion is None else load_for(fusion, files, specs[0])
    files = {name: find_checkpoint(path) for name, path in files.items()}
    seen = [seen_by(file, spec) for file, spec in zip(files.values(), specs, strict=True)]
    exported = _export_data(
        data, specs, seen, work, cache, parity_video, negatives, recurrent, not no_unknown
    )
    options = ExportOptions(clips, seed, ranges, accepted, accept_loss)
    result = write_bundle(loaded, exported, out, options, extra)
    logger.info("speed")
    command = f"twostream {shlex.join(sys.argv[1:])}"
    page = write_page(result, exported.test, files, command, earlier)
    _log_results(result, page)
    if fusion is not None and result.bundle.manifest.fusion.kind != "recurrent":
        logger.warning("%s: not taken: %s", fusion, result.report["fusion"]["kinds"]["rule"])


def _log_results(result: Exported, page: Path) -> None:
    from export.page import threshold_text

    manifest = result.bundle.manifest
    for part in ("validation", "test"):
        for stream in (*manifest.streams, FUSED):
            row = result.report[part][stream]
            logger.info(
                "%-10s %-8s top-1 FP32 %.4f, INT8 %.4f; mean score difference %.4f",
                part,
                stream,
                row["top1_fp32"],
                row["top1_int8"],
                row["mean_score_difference"],
            )
    if manifest.accepted_loss:
        logger.warning("%s", manifest.accepted_loss)
    weights = ", ".join(f"{name} {stream.weight}" for name, stream in manifest.streams.items())
    logger.info("fusion: %s", result.report["fusion"]["kinds"]["rule"])
    for kind, row in result.report["fusion"]["kinds"].get("held_out", {}).items():
        logger.info(
            "%-12s held-out top-1 %.4f, cross-entropy %.4f", kind, row["top1"], row["cross_entropy"]
        )
    logger.info(
        "wrote %s and %s: %s, weights %s; %s",
        result.bundle.path,
        page,
        manifest.fusion.kind,
        weights,
        "the best class is always shown"
        if manifest.decision.threshold is None
        else f"threshold {threshold_text(manifest)}",
    )
    for line in result.report["decision"]["shortfalls"]:
        logger.warning("%s", line)


def _export_data(
    data: Path,
    specs: list[NetworkSpec],
    seen: list[Seen],
    work: Path,
    cache: Path,
    parity_video: Path,
    negatives: Path | None,
    recurrent: RecurrentFile | None,
    unknown: bool,
) -> ExportData:
    from export.package import ExportData
    from train.data.cache import fill_cache, open_cache
    from train.data.dataset import open_dataset
    from train.data.enough import missing_for_bundle, unjudged_classes
    from train.data.folders import footage_clips
    from train.evaluation.held_out import hash_contents, validation_parts

    spec = specs[0]
    split = open_dataset(data, spec.split)
    by_content = any(network.by_content for network in seen)
    contents = hash_contents(split.train, cache) if by_content else {}
    train, validation, _ = validation_parts(split.train, seen, contents)
    parts = {"validation": validation, "test": list(split.test)}
    store, history = open_cache(cache, *specs), max(each.input.history for each in specs)
    cached = {name: fill_cache(store, clips, history) for name, clips in parts.items()}
    usable = {name: [each.clip for each in clips] for name, clips in cached.items()}
    lacks = missing_for_bundle(
        train, usable["validation"], usable["test"], spec.classes, unknown=unknown
    )
    if lacks:
        raise DataError(f"{data}: no bundle can be made of it: {'; '.join(lacks)}")
    for doubt in unjudged_classes(train, usable["validation"], usable["test"], spec.classes):
        logger.warning("%s", doubt)
    positives = {n: [c for c in cs if c.clip.label in spec.classes] for n, cs in cached.items()}
    others = {n: [c for c in cs if c.clip.label not in spec.classes] for n, cs in cached.items()}
    footage = [] if negatives is None else _unseen(footage_clips(negatives), seen, negatives, cache)
    return ExportData(
        split.train,
        work,
        store,
        positives["validation"],
        others["validation"],
        positives["test"],
        others["test"],
        fill_cache(store, footage, history),
        parity_video,
        recurrent,
    )


def _unseen(footage: list[Clip], seen: list[Seen], folder: Path, cache: Path) -> list[Clip]:
    """The clips of footage that no network was trained on. Raises DataError if there are none."""
    from train.evaluation.held_out import hash_contents

    contents = hash_contents(footage, cache)
    unseen = [c for c in footage if not any(network.trained_on(c, contents) for network in seen)]
    if not unseen:
        raise DataError(
            f"{folder}: the networks were trained on all of its videos; a threshold needs some "
            "that they have not seen"
        )
    if len(unseen) < len(footage):
        logger.info(
            "%s: %d of %d videos were trained on and are left out",
            folder,
            len(footage) - len(unseen),
            len(footage),
        )
    return unseen
