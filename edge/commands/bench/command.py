"""`twostream bench`: measures, prints, saves and compares."""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.bundle.manifest import load_bundle
from edge.bundle.network import Precision
from edge.commands.bench.clip import write_bench_clip
from edge.commands.bench.compare import (
    MARKDOWN_HEAD,
    lines,
    machine,
    markdown,
    measure_apart,
    slower,
    table,
)
from edge.commands.bench.measure import Request
from edge.commands.bench.plot import plot
from edge.errors import BenchError
from edge.files import write_atomic
from edge.sources.named import parse_sources
from edge.terminal import LineConsole
from edge.text import print_line

logger = logging.getLogger(__name__)

PRECISIONS: tuple[Precision, ...] = ("int8", "fp16", "fp32")


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """source: None is a generated clip. soak_minutes: 0 is no soak test."""

    bundles: tuple[Path, ...]
    source: str | None
    device: str
    precisions: tuple[Precision, ...]
    frames: int
    soak_minutes: float
    json: Path | None
    picture: Path | None
    against: Path | None


def parse_precisions(text: str) -> tuple[Precision, ...]:
    """Parse "int8,fp32" and the like. Raises BenchError for an unknown precision."""
    names = tuple(text.split(","))
    if set(names) - set(PRECISIONS):
        raise BenchError(f"--precision {text}: give some of {', '.join(PRECISIONS)}")
    return tuple(name for name in PRECISIONS if name in names)


def bench(options: BenchOptions) -> bool:
    """Measure, print and save. Returns False if a stage is slower than in `against`."""
    for path in options.bundles:
        load_bundle(path)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        source = options.source
        if source is None:
            source = str(write_bench_clip(Path(folder) / "made-320x240-h264.mp4"))
        if len(parse_sources([source])) > 1:
            raise BenchError(f"{source}: give one file or camera")
        for path in options.bundles:
            for precision in options.precisions:
                logger.info("measuring %s in %s ...", path, precision)
                request = Request(
                    str(path),
                    source,
                    options.device,
                    precision,
                    options.frames,
                    60 * options.soak_minutes,
                )
                rows.append(measure_apart(request))
    on = machine()
    LineConsole().print(table(rows))
    for row in rows:
        for line in lines(row):
            print_line(line)
    print(MARKDOWN_HEAD)
    for row in rows:
        print_line(markdown(row, on))
    if options.against is None:
        worse = False
    else:
        comparison, worse = slower(rows, options.against)
        for line in comparison:
            print_line(line)
    if options.json is not None:
        _write(options.json, {"machine": on, "measurements": rows})
    if options.picture is not None:
        plot(rows, options.picture)
    return not worse


def _write(path: Path, results: dict[str, Any]) -> None:
    with write_atomic(path, BenchError) as file:
        file.write((json.dumps(results, indent=1) + "\n").encode())
