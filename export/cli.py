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
from train.commands.arguments import Cache, Networks, networks_by_name
from train.streams import FUSED, STREAMS

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from edge.bundle.network import NetworkSpec
    from export.package import ExportData, Exported


def export_command(
    data: Annotated[Path, typer.Argument(help="Data set that the checkpoints were trained on.")],
    out: Annotated[Path, typer.Argument(help="Bundle folder to write.")],
    parity_video: Annotated[
        Path,
        typer.Option(help="Footage that may be passed on: parity samples are taken from it."),
    ],
    networks: Networks = None,
    work: Annotated[
        Path, typer.Option(help="Where runs are looked for, and FP32 graphs are left.")
    ] = Path("work"),
    clips: Annotated[int, typer.Option(help="Training clips to calibrate on.")] = 64,
    seed: int = 1,
    ranges: Ranges = "auto",
    false_alarms: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of moments of other actions that may show a label."),
    ] = 0.01,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Write the bundle even where INT8 loses much.")
    ] = False,
    measured: Annotated[
        Path | None, typer.Option(help="JSON of a benchmark to put into the report.")
    ] = None,
    cache: Cache = Path("work/cache"),
) -> None:
    """Make a bundle: INT8 networks, decision, parity samples and a report, and a page beside it.

    Calibration reads training clips, the decision is fitted on validation clips, and test clips are
    only reported on.
    """
    from export.package import ExportOptions, check_target, load_networks, write_bundle
    from export.page import write_page
    from train.training.run_folder import only_run

    if not parity_video.is_file():
        raise DataError(f"{parity_video}: no such video; give footage that may be passed on")
    check_target(out)
    extra = {"benchmarks": json.loads(measured.read_text())} if measured else {}
    files = networks_by_name(networks) or {name: only_run(work, name) for name in STREAMS}
    loaded = load_networks(files)
    specs = [spec for _, spec in loaded.values()]
    exported = _export_data(data, specs, work, cache, parity_video)
    options = ExportOptions(clips, seed, ranges, false_alarms, accept_loss)
    made = write_bundle(loaded, exported, out, options, extra)
    logger.info("speed")
    page = write_page(made, exported.test, files, f"twostream {shlex.join(sys.argv[1:])}")
    _tell(made, page)


def _tell(made: Exported, page: Path) -> None:
    manifest = made.bundle.manifest
    for part in ("validation", "test"):
        for stream in (*manifest.streams, FUSED):
            row = made.report[part][stream]
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
    threshold = manifest.fusion.threshold
    logger.info(
        "wrote %s and %s: weights %s; threshold %s", made.bundle.path, page, weights, threshold
    )


def _export_data(
    data: Path, specs: list[NetworkSpec], work: Path, cache: Path, parity_video: Path
) -> ExportData:
    from export.package import ExportData
    from train.data.cache import fill_cache, open_cache
    from train.data.dataset import open_dataset

    spec = specs[0]
    split = open_dataset(data, spec.split)
    held = set(spec.validation_clips)
    parts = {
        "validation": [clip for clip in split.train if clip.name in held],
        "test": list(split.test),
    }
    store, history = open_cache(cache, *specs), max(each.input.history for each in specs)
    cached = {name: fill_cache(store, clips, history) for name, clips in parts.items()}
    known = {n: [c for c in cs if c.clip.label in spec.classes] for n, cs in cached.items()}
    others = {n: [c for c in cs if c.clip.label not in spec.classes] for n, cs in cached.items()}
    for name in parts:
        if not known[name] or not others[name]:
            raise DataError(f"{data}: needs {name} clips of the classes and of other actions")
    return ExportData(
        split.train,
        work,
        store,
        known["validation"],
        others["validation"],
        known["test"],
        others["test"],
        parity_video,
    )
