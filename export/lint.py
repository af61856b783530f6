"""`twostream lint`. Imports onnx only once the command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.errors import ExportError
from edge.text import print_line


def lint_command(
    model: Annotated[Path, typer.Argument(help="INT8 (Q/DQ) ONNX file.")],
    table: Annotated[
        Path | None, typer.Option(help="Check this TensorRT calibration cache against the file.")
    ] = None,
) -> None:
    """Check the Q/DQ nodes of a network for faults that TensorRT ignores without a warning."""
    from calibration.lint import layer_precisions, lint
    from calibration.onnx_file import read_model
    from calibration.table import read_table

    network = read_model(model)
    layers = layer_precisions(network)
    floats = [name for _, name, precision in layers if precision == "float"]
    faults = lint(network)
    for fault in faults:
        print_line(fault)
    print_line(f"{len(layers) - len(floats)} of {len(layers)} layers in INT8")
    if table is not None:
        print_line(f"{table}: {len(read_table(table, model))} scales of this network")
    if faults:
        raise ExportError(
            f"{model}: {len(faults)} fault{'s' if len(faults) > 1 else ''} in its Q/DQ"
        )
