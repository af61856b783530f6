"""`twostream export`: two checkpoints to a bundle, or what is wrong with an INT8 file."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.errors import DataError, ExportError
from edge.files import write_atomic
from edge.text import print_line
from export.calibrate import Ranges

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from edge.bundle.network import NetworkSpec
    from export.package import ExportData


def export_command(
    data: Annotated[
        Path | None, typer.Argument(help="Data set that the checkpoints were trained on.")
    ] = None,
    out: Annotated[Path | None, typer.Argument(help="Bundle folder to write.")] = None,
    parity_video: Annotated[
        Path | None,
        typer.Option(help="Footage that may be passed on: parity samples are taken from it."),
    ] = None,
    spatial: Annotated[
        Path | None, typer.Option(help="Checkpoint, or folder of a run; by default that in WORK.")
    ] = None,
    temporal: Annotated[Path | None, typer.Option(help="The same of the other stream.")] = None,
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
    cache: Annotated[Path, typer.Option(help="Where resized frames and flow are kept.")] = Path(
        "work/cache"
    ),
    batch: Annotated[
        int,
        typer.Option(
            min=1, help="Leave INT8 networks for N inputs at once in WORK, too; a bundle's take 1."
        ),
    ] = 1,
    check: Annotated[
        Path | None, typer.Option(help="Only list what is wrong with the Q/DQ of an ONNX file.")
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="With --check: a calibration cache that is to fit the file."),
    ] = None,
) -> None:
    """Make a bundle: INT8 networks, decision, parity samples and a report, and a page beside it.

    Calibration reads training clips, the decision is fitted on validation clips, and test clips are
    only reported on.
    """
    if check is not None:
        _check(check, table)
        return
    if data is None or out is None or parity_video is None:
        raise DataError("export needs DATA, OUT and --parity-video, or --check FILE.onnx")
    from export.package import ExportOptions, check_target, load_pair, write_bundle
    from export.page import write_page
    from train.training.run_folder import only_run

    if not parity_video.is_file():
        raise DataError(f"{parity_video}: no such video; give footage that may be passed on")
    check_target(out)
    extra = {"benchmarks": json.loads(measured.read_text())} if measured else {}
    given = {"spatial": spatial, "temporal": temporal}
    files = {name: path or only_run(work, name) for name, path in given.items()}
    pair = load_pair(files)
    exported = _export_data(data, pair["spatial"][1], work, cache, parity_video)
    options = ExportOptions(clips, seed, ranges, false_alarms, accept_loss)
    made = write_bundle(pair, exported, out, options, extra)
    for stream in files if batch > 1 else ():
        logger.info("wrote %s", _write_batched(out, stream, batch, work))
    logger.info("speed")
    page = write_page(made, exported.test, files, f"twostream {shlex.join(sys.argv[1:])}")
    for part in ("validation", "test"):
        for stream in ("spatial", "temporal", "fused"):
            row = made.report[part][stream]
            logger.info(
                "%-10s %-8s top-1 FP32 %.4f, INT8 %.4f; mean score difference %.4f",
                part,
                stream,
                row["top1_fp32"],
                row["top1_int8"],
                row["mean_score_difference"],
            )
    fusion = made.report["fusion"]
    if made.report["accepted_loss"]:
        logger.warning("%s", made.report["accepted_loss"])
    logger.info(
        "wrote %s and %s: spatial weight %s, threshold %s",
        out,
        page,
        fusion["spatial_weight"],
        fusion["threshold"],
    )


def _export_data(
    data: Path, spec: NetworkSpec, work: Path, cache: Path, parity_video: Path
) -> ExportData:
    from export.package import ExportData
    from train.data.cache import fill_cache, open_cache
    from train.data.dataset import open_dataset

    split = open_dataset(data, spec.split)
    held = set(spec.validation_clips)
    parts = {
        "validation": [clip for clip in split.train if clip.name in held],
        "test": list(split.test),
    }
    store = open_cache(cache, spec)
    cached = {name: fill_cache(store, clips) for name, clips in parts.items()}
    known = {n: [c for c in cs if c.clip.label in spec.classes] for n, cs in cached.items()}
    others = {n: [c for c in cs if c.clip.label not in spec.classes] for n, cs in cached.items()}
    for name in parts:
        if not known[name] or not others[name]:
            raise DataError(f"{data}: needs {name} clips of the classes and of other actions")
    return ExportData(
        split.train,
        work,
        cache / "calibration",
        known["validation"],
        others["validation"],
        known["test"],
        others["test"],
        parity_video,
    )


def _write_batched(bundle: Path, stream: str, batch: int, work: Path) -> Path:
    from calibration.onnx_file import read_model
    from export.graph import batched

    path = work / f"{stream}.int8.batch{batch}.onnx"
    model = batched(read_model(bundle / f"{stream}.onnx"), batch)
    with write_atomic(path, ExportError) as file:
        file.write(model.SerializeToString(deterministic=True))
    return path


def _check(file: Path, table: Path | None) -> None:
    """Print each fault on a line of its own. Raises ExportError where there are any."""
    from calibration.lint import layer_precisions, lint
    from calibration.onnx_file import read_model
    from calibration.table import read_table

    model = read_model(file)
    layers = layer_precisions(model)
    floats = [name for _, name, precision in layers if precision == "float"]
    faults = lint(model)
    for fault in faults:
        print_line(fault)
    print_line(f"{len(layers) - len(floats)} of {len(layers)} layers in INT8")
    if table is not None:
        print_line(f"{table}: {len(read_table(table, file))} scales of this network")
    if faults:
        raise ExportError(
            f"{file}: {len(faults)} fault{'s' if len(faults) > 1 else ''} in its Q/DQ"
        )
