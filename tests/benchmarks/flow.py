"""Optical flow on one core: TV-L1 beside OpenCV's DIS, Farneback and DualTVL1.

    python -m tests.benchmarks.flow [--data FOLDER] [--repeats N] [--json FILE]

Like for like: cv2.setNumThreads(1), all methods in one process, one after the other in each round,
so that a busy machine disturbs all of them; ratios are of the rounds' medians. DIS and DualTVL1 run
with OpenCV's defaults, Farneback with those of OpenCV's tutorial. Times are for RubberWhale, scaled
to the size by area; endpoint errors are at native resolution, over the pixels whose truth is known.

Two pairs are few, so errors are measured over sequences, too: pieces of the pairs' pictures that
drift over one another (train/training/drift.py), 224 x 224, ten flows each. With them goes what a
warm start would do: the second picture is warped back by the flow of the step before, and TV-L1
finds the rest with half of the work.
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
from train.training.drift import PIECES_MAX, draw_drift

Plane = NDArray[np.uint8]
Flow = NDArray[np.float32]
Method = Callable[[Plane, Plane], Flow]
Sequence = tuple[NDArray[np.uint8], NDArray[np.float32]]  # (T + 1, H, W), flows (T, 2, H, W)
SIZES_HW = ((224, 224), (240, 320))
DRAWN_HW, DRAWN, FLOWS = (224, 224), 12, 10


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


def drawn_sequences(data: Path) -> list[Sequence]:
    """Sequences of drawn motion, whose flow is known."""
    pictures = [read_luma(data / name) for names in PAIRS.values() for name in names[:2]]
    found = []
    for seed in range(DRAWN):
        rng = np.random.default_rng(seed)
        parts = []
        for _ in range(1 + int(rng.integers(PIECES_MAX + 1))):
            picture = pictures[int(rng.integers(len(pictures)))]
            starts = (int(rng.integers(picture.shape[k] - DRAWN_HW[k] + 1)) for k in range(2))
            rows, columns = (slice(a, a + b) for a, b in zip(starts, DRAWN_HW, strict=True))
            parts.append(np.ascontiguousarray(picture[rows, columns]))
        stack, flows = draw_drift(parts, FLOWS + 1, rng)
        found.append((stack, flows.reshape(2, FLOWS, *DRAWN_HW).swapaxes(0, 1)))
    return found


def over_sequences(method: Method, sequences: list[Sequence]) -> NDArray[np.float64]:
    """The mean endpoint error, px, of each step of the sequences, (FLOWS,)."""
    return np.mean(
        [
            [endpoint_error(method(*stack[i : i + 2]), flows[i]) for i in range(FLOWS)]
            for stack, flows in sequences
        ],
        axis=0,
    )


def warm_started(sequences: list[Sequence]) -> NDArray[np.float64]:
    """The same of TV-L1 `quick` that starts from the flow of the step before, with one warp."""
    cold = TVL1(PRESETS["quick"], DRAWN_HW)
    rest = TVL1(PRESETS["quick"].model_copy(update={"warps": 1}), DRAWN_HW)
    y, x = np.indices(DRAWN_HW, np.float32)
    rows = []
    for stack, flows in sequences:
        flow = cold(stack[0], stack[1])
        row = [endpoint_error(flow, flows[0])]
        for i in range(1, FLOWS):
            at = x + flow[0], y + flow[1]
            back = cv2.remap(stack[i + 1], *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            flow = flow + rest(stack[i], np.asarray(back, np.uint8))
            row.append(endpoint_error(flow, flows[i]))
        rows.append(row)
    return np.mean(rows, axis=0)


def measure(data: Path, repeats: int) -> list[dict[str, float | str]]:
    pictures = {
        pair: [read_luma(data / name) for name in names[:2]] for pair, names in PAIRS.items()
    }
    sequences = drawn_sequences(data)
    errors: dict[str, dict[str, float]] = {
        name: {"drawn": float(over_sequences(method, sequences).mean())}
        for name, method in methods(DRAWN_HW).items()
        if name != "DualTVL1"  # a minute
    }
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
    warm = warm_started(drawn_sequences(arguments.data)).round(3).tolist()
    print("one thread each (cv2.setNumThreads(1)); width x height; ms a pair; endpoint error in px")
    columns = list(max(rows, key=len))
    print(" | ".join(f"{column:>19}" for column in columns))
    for row in rows:
        cells = (row.get(column, "") for column in columns)
        print(" | ".join(f"{c:>19}" if isinstance(c, str) else f"{c:>19.3f}" for c in cells))
    print("TV-L1 quick, warm start with one warp, error of each step of a drawn sequence:", warm)
    if arguments.json:
        found = {"opencv": cv2.__version__, "threads": 1, "rows": rows}
        write_result(arguments.json, found | {"warm_start_epe_px": warm})


if __name__ == "__main__":
    main()
