"""Tables of measurements, rows for docs/figures.md, and comparison with earlier results.

The comparison uses ratios: each stage's median over that of a yardstick (DIS flow) measured in the
same process, since a slower or busy machine is slower in both.
"""

from __future__ import annotations

import json
import logging
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from rich.table import Table
from rich.text import Text

from edge.commands.bench.measure import Request, request_json, serial
from edge.commands.bench.sensors import Sensors
from edge.errors import BenchError
from edge.log import current_level, read_line
from edge.text import printable

logger = logging.getLogger(__name__)

SLOWER_MAX = 1.25  # a stage whose ratio grew by more than this is slower
_LEAST_MS = 0.5  # shorter stages are too short to compare
# The stages before and after the networks, which have the names of their streams.
_BEFORE = ("decode", "queue", "resize", "host", "flow", "stack")
_AFTER = ("wait", "fusion", "output", "latency", "end_to_end")


def machine() -> dict[str, Any]:
    """The machine that was measured."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", cpu, re.MULTILINE)
    board = Path("/proc/device-tree/model")
    return {
        "board": board.read_text(encoding="utf-8").strip("\0\n ") if board.exists() else None,
        "cpu": model[1] if model else platform.machine(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def measure_apart(request: Request) -> dict[str, Any]:
    """Measure in a separate process, with sensors. Raises BenchError if it fails."""
    words = [sys.executable, "-m", "edge.commands.bench.measure", current_level()]
    with (
        Sensors() as sensors,
        subprocess.Popen(
            words,
            stdin=subprocess.PIPE,  # not an argument, which all users could read with its password
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        out, errors = process.communicate(request_json(request))
    if process.returncode:
        for line in errors.splitlines():
            logger.error("%s", line)
        raise BenchError(
            f"the measurement ended with code {process.returncode}; see its messages above"
        )
    for line in errors.splitlines():
        level, text = read_line(line)
        logger.log(level, "%s", text)
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    if "fault" in result:
        raise BenchError(result["fault"])
    return result | {"sensors": sensors.report()}


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """Medians by stage, one column for each measurement; for a single one also p95, p99, max."""
    shown = Table(box=None, pad_edge=False, header_style="dim")
    shown.add_column("ms")
    if len(rows) == 1:
        names = ("p50", "p95", "p99", "max")
        for name in names:
            shown.add_column(name, justify="right")
        for stage in _measured_stages(rows):
            times = rows[0]["stages_ms"][stage]
            shown.add_row(stage.replace("_", " "), *(f"{times[name]:.2f}" for name in names))
        for stream, times in rows[0]["alone_ms"].items():
            shown.add_row(f"{stream} alone", *(f"{times[name]:.2f}" for name in names))
        return shown
    for row in rows:
        head = f"{printable(row['bundle'])}\n{row['precision']}"
        shown.add_column(Text(head), justify="right")
    for stage in _measured_stages(rows):
        cells = (row["stages_ms"].get(stage, {}).get("p50") for row in rows)
        shown.add_row(
            stage.replace("_", " "), *("" if cell is None else f"{cell:.2f}" for cell in cells)
        )
    for stream in _streams(rows):
        cells = (row["alone_ms"].get(stream, {}).get("p50") for row in rows)
        shown.add_row(f"{stream} alone", *("" if cell is None else f"{cell:.2f}" for cell in cells))
    return shown


def _streams(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(stream for row in rows for stream in row["alone_ms"]))


def _measured_stages(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The stages of these measurements, in the order they run."""
    order = (*_BEFORE, *_streams(rows), *_AFTER)
    return [stage for stage in order if any(stage in row["stages_ms"] for row in rows)]


def lines(row: dict[str, Any]) -> list[str]:
    """Everything else of a measurement as text."""
    per_second = row["frames_per_second"]
    rate = "" if per_second is None else f"{per_second:.0f} frames a second, "
    text = [
        f"{row['bundle']} {row['precision']} on {row['device']}, {row['source']}: {rate}"
        f"{row['decisions_per_second']:.0f} decisions a second",
        f"first label {row['first_label_s']:.2f} s after the start; "
        f"memory {row['memory_mb']:.0f} MB, at most {row['peak_memory_mb']:.0f} MB",
    ]
    share = row["parts_of_the_whole"]
    if share is not None:
        fits = "" if abs(share - 1) <= 0.1 else ": THEY DO NOT ADD UP"
        text.append(
            f"{', '.join(serial(row['stages_ms']))} add up to {share:.0%} of the time from label "
            f"to label{fits}"
        )
    text.append(
        f"{row['processor_ms_a_frame']:.1f} ms of CPU time per frame, of which "
        f"{row['own_share']:.1%} is neither decode, flow nor network"
    )
    if row["host_work"] is not None:
        text.append(
            "work of the host for a frame: {graph_ms:.3f} ms as a CUDA graph, {launches_ms:.3f} ms "
            "kernel by kernel, {ratio:.1f} times as much".format(**row["host_work"])
        )
    sensors = {k: v for k, v in row["sensors"].items() if v is not None}
    missing = [k for k, v in row["sensors"].items() if v is None]
    text.append(
        ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in sensors.items())
        + ("; " if sensors else "")
        + (f"not available on this machine: {', '.join(k.replace('_', ' ') for k in missing)}")
    )
    return text


def markdown(row: dict[str, Any], on: dict[str, Any]) -> str:
    """A row for the table in docs/figures.md."""
    stages = row["stages_ms"]
    cells = [
        on["board"] or f"{on['cpu']}, {on['cores']} cores",
        row["device"],
        row["bundle"],
        row["precision"],
        "" if row["frames_per_second"] is None else f"{row['frames_per_second']:.0f}",
        f"{stages['latency']['p50']:.1f}, {stages['latency']['p95']:.1f}",
        f"{stages['flow']['p50']:.1f}" if "flow" in stages else "",
        ", ".join(f"{name} {times['p50']:.1f}" for name, times in row["alone_ms"].items()),
        f"{row['peak_memory_mb']:.0f}",
        "" if row["sensors"]["power_w"] is None else f"{row['sensors']['power_w']:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


MARKDOWN_HEAD = (
    "| machine | device | bundle | precision | frames/s | latency p50, p95 ms | flow ms | "
    "networks alone ms | memory MB | power W |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def key(row: dict[str, Any]) -> tuple[str, ...]:
    """What must be equal for two measurements to be comparable."""
    return row["bundle"], row["precision"], row["device"].partition(":")[0], row["source"]


def slower(rows: Sequence[dict[str, Any]], path: Path) -> tuple[list[str], bool]:
    """Compare each stage with earlier results: a line each, and whether one is slower.

    Raises BenchError if the file cannot be read or has no comparable measurement.
    """
    try:
        earlier = {
            key(row): row for row in json.loads(path.read_text(encoding="utf-8"))["measurements"]
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchError(f"{path}: not from `twostream bench --json` ({error})") from None
    comparison, worse = [], False
    for row in rows:
        before = earlier.get(key(row))
        if before is None:
            continue
        pairs = [
            (stage, row["stages_ms"][stage]["p50"], before["stages_ms"][stage]["p50"])
            for stage in _measured_stages([row])
            if stage in before["stages_ms"]
        ]
        for stage, now, then in pairs:
            if max(now, then) < _LEAST_MS:
                continue
            ratio = (now / row["yardstick_ms"]) / max(then / before["yardstick_ms"], 1e-9)
            worse |= ratio > SLOWER_MAX
            word = (
                "SLOWER" if ratio > SLOWER_MAX else "faster" if ratio < 1 / SLOWER_MAX else "same"
            )
            comparison.append(f"{row['precision']} {stage}: {ratio:.2f} of before, {word}")
    if not comparison:
        raise BenchError(f"{path}: has no measurement of this bundle, precision, device and source")
    return comparison, worse
