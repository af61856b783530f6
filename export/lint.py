"""`twostream lint`. Imports onnx only once the command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.bundle.network import FUSION_KEY
from edge.errors import ExportError
from edge.text import print_line


def lint_command(
    model: Annotated[Path, typer.Argument(help="INT8 (Q/DQ) ONNX file.")],
    table: Annotated[
        Path | None, typer.Option(help="Check this TensorRT calibration cache against the file.")
    ] = None,
) -> None:
    """Check a network's quantisation for what TensorRT refuses, or runs in float without a word."""
    from calibration.lint import layer_precisions, lint
    from calibration.onnx_file import read_model
    from calibration.placement import kept_float
    from calibration.table import read_table

    network = read_model(model)
    layers = layer_precisions(network)
    if any(entry.key == FUSION_KEY for entry in network.metadata_props):
        print_line(f"the network of a fusion: {len(layers)} layers, all in float as they should be")
        return
    floats = [name for _, name, precision in layers if precision == "float"]
    found, kept = lint(network), kept_float(network)
    for fault in found.faults:
        print_line(fault)
    for hint in found.hints:
        print_line(f"hint: {hint}")
    by_export = f", {len(kept)} kept in float by the export" if kept else ""
    print_line(f"{len(layers) - len(floats)} of {len(layers)} layers quantised{by_export}")
    if table is not None:
        print_line(f"{table}: {len(read_table(table, model))} scales of this network")
    if found.faults:
        count = len(found.faults)
        raise ExportError(f"{model}: {count} fault{'s' if count > 1 else ''} in its quantisation")
