"""`twostream export`: two checkpoints to a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge.errors import DataError


def export_command(
    data: Annotated[Path, typer.Argument(help="UCF101 tree that the checkpoints were trained on.")],
    out: Annotated[Path, typer.Argument(help="Bundle folder to write.")],
    parity_video: Annotated[
        Path, typer.Option(help="Footage that may be passed on: parity samples are taken from it.")
    ],
    spatial: Annotated[
        Path | None, typer.Option(help="Checkpoint, or folder of a run; by default that in WORK.")
    ] = None,
    temporal: Annotated[Path | None, typer.Option(help="The same of the other stream.")] = None,
    work: Annotated[
        Path, typer.Option(help="Where runs are looked for, and FP32 graphs are left.")
    ] = Path("work"),
    clips: Annotated[int, typer.Option(help="Training clips to calibrate on.")] = 64,
    seed: int = 1,
    measured: Annotated[
        Path | None, typer.Option(help="JSON of a benchmark to put into the report.")
    ] = None,
    cache: Annotated[Path, typer.Option(help="Where analysed frames and flow are kept.")] = Path(
        "work/cache"
    ),
) -> None:
    """Make a bundle: INT8 networks, threshold, parity samples and a report.

    Calibration reads training clips, the threshold is chosen on validation clips, and test clips
    are only reported on.
    """
    from export.package import ExportData, check_target, load_pair, write_bundle
    from train.caching import fill_cache, open_cache
    from train.dataset import open_dataset
    from train.run_folder import only_run

    console = Console(stderr=True, highlight=False)
    if not parity_video.is_file():
        raise DataError(f"{parity_video}: no such video; give footage that may be passed on")
    check_target(out)
    extra = {"benchmarks": json.loads(measured.read_text())} if measured else {}
    given = {"spatial": spatial, "temporal": temporal}
    pair = load_pair({name: path or only_run(work, name) for name, path in given.items()})
    spec = pair["spatial"][1]
    split = open_dataset(data, spec.split)
    held = set(spec.validation_clips)
    parts = {
        "validation": [clip for clip in split.train if clip.name in held],
        "test": list(split.test),
    }
    store = open_cache(cache, spec)
    cached = {name: fill_cache(store, clips_, console) for name, clips_ in parts.items()}
    known = {n: [c for c in cs if c.clip.label in spec.classes] for n, cs in cached.items()}
    others = {n: [c for c in cs if c.clip.label not in spec.classes] for n, cs in cached.items()}
    for name in parts:
        if not known[name] or not others[name]:
            raise DataError(f"{data}: needs {name} clips of the classes and of other actions")
    exported = ExportData(
        split.train,
        work,
        known["validation"],
        others["validation"],
        known["test"],
        others["test"],
        parity_video,
    )
    report = write_bundle(pair, exported, out, clips, seed, extra, console.print)
    for part in ("validation", "test"):
        for stream in ("spatial", "temporal", "fused"):
            row = report[part][stream]
            console.print(
                f"{part:10} {stream:8} top-1 FP32 {row['top1_fp32']:.4f}, "
                f"INT8 {row['top1_int8']:.4f}; "
                f"mean score difference {row['mean_score_difference']:.4f}"
            )
    fusion = report["fusion"]
    console.print(
        f"wrote {out}: spatial weight {fusion['spatial_weight']}, threshold {fusion['threshold']}"
    )
