"""Optical flow on one core: TV-L1 beside OpenCV's DIS, Farneback and DualTVL1.

    python -m tests.benchmarks.flow [--data FOLDER] [--repeats N] [--json FILE]

Like for like: cv2.setNumThreads(1), all methods in one process, one after the other in each round,
so that a busy machine disturbs all of them; ratios are of the rounds' medians. DIS and DualTVL1 run
with OpenCV's defaults, Farneback with those of OpenCV's tutorial. Times are for RubberWhale, scaled
to the size by area; endpoint errors are at native resolution, over the pixels whose truth is known.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.motion.spec import PRESETS
from edge.motion.tvl1 import TVL1
from tests.benchmarks.result import write_result
from tests.support.flows import FLOW_ROOT, PAIRS, endpoint_error, read_flo, read_luma

Method = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]
SIZES_HW = ((224, 224), (240, 320))


def opencv_flow(calc: Callable[..., NDArray[np.float32]]) -> Method:
    return lambda first, second: calc(first, second, None).transpose(2, 0, 1)


def methods(size_hw: tuple[int, int]) -> dict[str, Method]:
    """name -> method for pictures of one size, all of them warm."""
    found: dict[str, Method] = {
        f"TV-L1 {name}": TVL1(spec, size_hw) for name, spec in PRESETS.items()
    }
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found["DIS medium"] = opencv_flow(dis.calc)
    found["Farneback"] = opencv_flow(
        lambda a, b, out: cv2.calcOpticalFlowFarneback(a, b, out, 0.5, 3, 15, 3, 5, 1.2, 0)
    )
    if hasattr(cv2, "optflow"):
        found["DualTVL1"] = opencv_flow(cv2.optflow.DualTVL1OpticalFlow_create().calc)
    blank = np.zeros(size_hw, np.uint8)
    for method in found.values():
        method(blank, blank)
    return found


def time_methods(
    size_hw: tuple[int, int], pair: list[NDArray[np.uint8]], repeats: int
) -> dict[str, list[float]]:
    """name -> milliseconds of each round; slow DualTVL1 runs in every tenth round only."""
    first, second = (
        cv2.resize(picture, size_hw[::-1], interpolation=cv2.INTER_AREA) for picture in pair
    )
    found = methods(size_hw)
    times_ms: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(repeats):
        for name, method in found.items():
            if name == "DualTVL1" and turn % 10:
                continue
            start = time.perf_counter()
            method(first, second)
            times_ms[name].append(1e3 * (time.perf_counter() - start))
    return times_ms


def measure(data: Path, repeats: int) -> list[dict[str, float | str]]:
    pictures = {
        pair: [read_luma(data / name) for name in names[:2]] for pair, names in PAIRS.items()
    }
    errors: dict[str, dict[str, float]] = {}
    for pair, names in PAIRS.items():
        truth = read_flo(data / names[2])
        for name, method in methods(truth.shape[1:]).items():
            errors.setdefault(name, {})[pair] = endpoint_error(method(*pictures[pair]), truth)
    rows: list[dict[str, float | str]] = []
    for size_hw in SIZES_HW:
        times_ms = time_methods(size_hw, pictures["rubberwhale"], repeats)
        medians = {name: statistics.median(values) for name, values in times_ms.items()}
        for name, median in medians.items():
            row: dict[str, float | str] = {
                "method": name,
                "size": f"{size_hw[1]}x{size_hw[0]}",
                "median_ms": median,
                "min_ms": min(times_ms[name]),
                "of_dis_medium": median / medians["DIS medium"],
            }
            if "DualTVL1" in medians:
                row["of_dualtvl1"] = median / medians["DualTVL1"]
            row |= {f"epe_{pair}_px": error for pair, error in errors[name].items()}
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=FLOW_ROOT, help="folder of the two pairs")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    rows = measure(arguments.data, arguments.repeats)
    print("one thread each (cv2.setNumThreads(1)); width x height; ms a pair; endpoint error in px")
    columns = list(rows[0])
    print(" | ".join(f"{column:>19}" for column in columns))
    for row in rows:
        cells = (row[column] for column in columns)
        print(" | ".join(f"{c:>19}" if isinstance(c, str) else f"{c:>19.3f}" for c in cells))
    if arguments.json:
        write_result(arguments.json, {"opencv": cv2.__version__, "threads": 1, "rows": rows})


if __name__ == "__main__":
    main()
