"""`twostream calibrate`. Imports onnxruntime only once the command runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from calibration.quantise import Calibration


def calibrate_command(
    model: Annotated[Path, typer.Argument(help="FP32 ONNX file from twostream export.")],
    data: Annotated[Path, typer.Argument(help="Data set that the network was trained on.")],
    out: Annotated[Path | None, typer.Option(help="INT8 ONNX file; MODEL.int8.onnx.")] = None,
    clips: Annotated[int, typer.Option(min=1, help="Training clips to calibrate on.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Which clips are drawn.")] = 1,
) -> None:
    """Make the INT8 (Q/DQ) version of an FP32 network from its own training clips."""
    from calibration.onnx_file import load_model, write_model
    from calibration.quantise import calibrate
    from train.dataset import open_dataset

    out = out or model.with_name(f"{model.stem}.int8.onnx")
    _, spec = load_model(model)
    made = calibrate(model, open_dataset(data, spec.split).train, clips, seed)
    write_model(made.model, made.spec, out)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for line in describe(made):
        console.print(line, markup=False)
    console.print(f"wrote {out}", markup=False)


def describe(made: Calibration) -> list[str]:
    """The report, line by line."""
    from calibration.lint import float_layers

    samples, difference = made.samples, made.difference
    kept = float_layers(made.model)
    spread = ", ".join(f"{label} {count}" for label, count in samples.label_spread.items())
    return [
        f"{made.spec.stream}: {len(samples.clips)} training clips, {len(samples)} samples, "
        f"{len(samples.skipped)} clips skipped; clip list sha256 {samples.list_hash[:16]}",
        f"clips a class: {spread}",
        *(f"warning: {warning}" for warning in samples.warnings),
        f"layers in float: {', '.join(kept) or 'none'}",
        f"INT8 against FP32 on {difference.samples} samples held out: mean |score difference| "
        f"{difference.mean:.4f}, largest {difference.largest:.4f}, "
        f"same top-1 {difference.same_top1:.1%}",
    ]
