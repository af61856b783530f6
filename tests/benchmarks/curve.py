"""Accuracy over time: bundles of several sizes, in INT8 and FP32, on one chart.

    python -m tests.benchmarks.curve BUNDLE... [--source CLIP] [--json FILE] [--picture FILE.png]

Each round measures every bundle in every precision (`twostream bench`, a process each), so that a
busy machine disturbs all of them; figures are medians of the rounds. Accuracy is what the report
of each bundle says of its test clips.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any, cast

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from edge.bundle.manifest import load_bundle
from edge.bundle.network import Precision
from edge.commands.bench.compare import measure_apart
from edge.commands.bench.measure import Request
from tests.benchmarks.result import write_result

PRECISIONS: tuple[Precision, ...] = ("int8", "fp32")
FRAMES = 200


def accuracy(bundle: Path, precision: Precision) -> dict[str, Any]:
    """Of both streams together: top-1 of whole test clips, and, which is only counted in INT8, the
    share of moments with the right label while other actions may appear."""
    report = json.loads((bundle / "report.json").read_text(encoding="utf-8"))
    test, decision = report["test"], report["decision"]["test"]
    return {
        "top1": test["fused"][f"top1_{precision}"],
        "clips": test["clips"],
        "right_moments": decision["right"]["share"] if precision == "int8" else None,
    }


def measure(bundles: list[Path], source: str, rounds: int) -> list[dict[str, Any]]:
    """A row for each bundle and precision."""
    cases = [(bundle, precision) for bundle in bundles for precision in PRECISIONS]
    found: dict[tuple[Path, Precision], list[dict[str, Any]]] = {case: [] for case in cases}
    for _ in range(rounds):
        for bundle, precision in cases:
            request = Request(str(bundle), source, "cpu", precision, FRAMES, 0.0)
            found[bundle, precision].append(measure_apart(request))
    rows = []
    for (bundle, precision), results in found.items():
        manifest = load_bundle(bundle).manifest

        def median(name: str, results: list[dict[str, Any]] = results) -> float:
            return round(statistics.median(each[name] for each in results), 3)

        rows.append(
            {
                "bundle": manifest.name,
                "size_px": manifest.geometry.size_hw[0],
                "precision": precision,
                **accuracy(bundle, precision),
                "frames_per_second": median("frames_per_second"),
                "processor_ms": median("processor_ms_a_frame"),
                "own_share": median("own_share"),
                "first_label_s": median("first_label_s"),
                "memory_mb": median("memory_mb"),
            }
        )
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    styles = (("tab:blue", 6), ("tab:orange", -14))  # and how far names are above their points
    for precision, (colour, above) in zip(PRECISIONS, styles, strict=True):
        points = sorted(
            (row["processor_ms"], 100 * row["top1"], row["size_px"])
            for row in rows
            if row["precision"] == precision
        )
        times, tops, _ = zip(*points, strict=True)
        axes.plot(times, tops, "o-", color=colour, label=f"{precision.upper()}, whole clips")
        for time_ms, top, size in points:
            axes.annotate(
                f"{size} px",
                (time_ms, top),
                xytext=(5, above),
                textcoords="offset points",
                fontsize=9,
            )
        moments = [
            (row["processor_ms"], 100 * row["right_moments"])
            for row in rows
            if row["precision"] == precision and row["right_moments"] is not None
        ]
        if moments:
            axes.plot(
                *zip(*sorted(moments), strict=True),
                "s--",
                color=colour,
                alpha=0.6,
                label=f"{precision.upper()}, moments with the right label",
            )
    axes.set_xlim(left=0)
    axes.set_xlabel("processor time of a frame, all in all, ms")
    axes.set_ylabel(
        f"right, % ({rows[0]['clips']} test clips: one is {100 / rows[0]['clips']:.0f} %)"
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=cast(str, __doc__).splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--source", default="out/bikes.mp4")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--picture", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    rows = measure(arguments.bundles, arguments.source, arguments.rounds)
    print(
        "| bundle | size | precision | top-1 | right moments | frames/s | ms a frame | own share |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        moments = "" if row["right_moments"] is None else f"{row['right_moments']:.3f}"
        print(
            f"| {row['bundle']} | {row['size_px']} px | {row['precision']} | {row['top1']:.3f} | "
            f"{moments} | {row['frames_per_second']:.0f} | {row['processor_ms']:.1f} | "
            f"{100 * row['own_share']:.1f} % |"
        )
    if arguments.json:
        write_result(arguments.json, {"source": Path(arguments.source).name, "rows": rows})
    if arguments.picture:
        draw(rows, arguments.picture)


if __name__ == "__main__":
    main()
