"""Measurements as a picture: what a frame's time goes to, how latency is spread, how it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.commands.bench.measure import serial
from edge.errors import BenchError
from edge.files import write_atomic
from edge.installation import install_line

_COLOURS = {
    "decode": "#8d99ae",
    "resize": "#e9c46a",
    "host": "#e9c46a",
    "flow": "#1b87d6",
    "stack": "#90caf9",
    "wait": "#e8830c",
    "fusion": "#2a9d8f",
    "output": "#6d597a",
}


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Stacked bars of the stages and histograms of latency; of a soak also latency and memory over
    time. Raises BenchError without matplotlib or where the file cannot be written."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise BenchError(f"--picture needs matplotlib; run: {install_line('plots')}") from None
    soaks = [row for row in rows if row["soak"]]
    figure, axes = pyplot.subplots(
        2 if soaks else 1, 2, figsize=(11, 8 if soaks else 4), squeeze=False
    )
    _bars(axes[0][0], rows)
    _latencies(axes[0][1], rows)
    if soaks:
        _over_time(axes[1], soaks)
    figure.tight_layout()
    try:
        with write_atomic(path, BenchError) as file:
            figure.savefig(file, dpi=120, format=path.suffix.removeprefix(".") or "png")
    except ValueError as error:  # an ending that is no kind of picture
        raise BenchError(f"{path}: cannot be written ({error})") from None
    finally:
        pyplot.close(figure)


def _name(row: dict[str, Any]) -> str:
    return f"{row['bundle']} {row['precision']}"


def _bars(axis: Any, rows: Sequence[dict[str, Any]]) -> None:
    for place, row in enumerate(rows):
        left = 0.0
        for stage in serial(row["stages_ms"]):
            times = row["stages_ms"][stage]
            label = stage if place == 0 else None
            axis.barh(place, times["mean"], left=left, color=_COLOURS[stage], label=label)
            left += times["mean"]
        whole = row["stages_ms"]["end_to_end"]["mean"]
        if whole:
            axis.plot([whole, whole], [place - 0.4, place + 0.4], color="black", linewidth=1.5)
    axis.set_yticks(range(len(rows)), [_name(row) for row in rows])
    axis.set_xlabel("ms a frame, mean; black: from label to label")
    axis.legend(fontsize=8, ncols=2)


def _latencies(axis: Any, rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        edges = [edge for edge, _ in row["latency_histogram"]]
        counts = [count for _, count in row["latency_histogram"]]
        axis.step(edges, [count / sum(counts) for count in counts], where="mid", label=_name(row))
    axis.set_xscale("log")
    lowest, highest = axis.get_xlim()
    steps = [factor * 10**power for power in range(-1, 5) for factor in (1, 1.5, 2, 3, 5, 7)]
    shown = [step for step in steps if lowest <= step <= highest]
    axis.set_xticks(shown, [f"{step:g}" for step in shown])
    axis.set_xticks([], minor=True)
    axis.set_xlabel("latency, ms")
    axis.set_ylabel("share of labels")
    axis.legend(fontsize=8)


def _over_time(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        minutes = [5 * (k + 1) / 60 for k in range(len(row["soak"]))]
        for quantile in ("p50", "p95"):
            values = [tick[f"latency_{quantile}_ms"] for tick in row["soak"]]
            axes[0].plot(minutes, values, label=f"{_name(row)} {quantile}")
        axes[1].plot(minutes, [tick["memory_mb"] for tick in row["soak"]], label=_name(row))
    axes[0].set_ylabel("latency, ms")
    axes[1].set_ylabel("memory, MB")
    for axis in axes:
        axis.set_xlabel("minutes")
        axis.set_ylim(0, 1.2 * max(max(line.get_ydata()) for line in axis.get_lines()))
        axis.legend(fontsize=8)
