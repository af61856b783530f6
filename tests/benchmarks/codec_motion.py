"""Motion vectors of the codec beside TV-L1 flow, on clips of UCF101: how alike, and what they cost.

    python -m tests.benchmarks.codec_motion [--data UCF101] [--clips N] [--rounds N] [--json FILE]

Flow is compared at 224 x 224, in px per frame, on every frame pair of each clip: the correlation of
u and of v with TV-L1's (`fast`), and the mean endpoint distance to it where it moves by more than a
px, beside the distance of no motion at all. TV-L1 is no ground truth.

Times are processor time of all threads, so that neither another program nor the decoder's threads
distort them. The four parts of a round follow one another on the same clip; ratios are of the
rounds' medians. What motion vectors cost is what decoding with them takes longer, and the making of
the field.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.decision.statistics import VectorStatistics
from edge.motion.codec import CODEC, CodecMotion, velocity_field
from edge.motion.method import Motion
from edge.motion.spec import PRESETS
from edge.motion.tvl1 import TVL1, TVL1Motion
from edge.video.clip import open_clip
from edge.video.frames import Frame, resize_to_model
from tests.benchmarks.result import write_result
from train.streams import training_view

SIZE_HW = (224, 224)
VIEW = training_view(SIZE_HW)
FAST = PRESETS["fast"]
MOVING_PX = 1.0
TIMED = 60  # frames of a clip


def spread(clips: list[Path], count: int) -> list[Path]:
    """`count` of the clips, evenly spaced over the sorted names."""
    return [clips[k * len(clips) // count] for k in range(min(count, len(clips)))]


def read(path: Path, vectors: bool, limit: int | None = None) -> list[Frame]:
    frames = []
    with open_clip(path, quiet=True, vectors=vectors) as clip:
        for frame in clip:
            frames.append(frame)
            if len(frames) == limit:
                break
    return frames


def compare(path: Path, tvl1: TVL1) -> dict[str, Any]:
    """One clip's row."""
    frames = [resize_to_model(frame, VIEW) for frame in read(path, vectors=True)]
    counts, coded, measured = VectorStatistics(), [], []
    for previous, current in pairwise(frames):
        assert current.vectors is not None
        counts.add(current.vectors)
        since_s = current.time_s - previous.time_s
        coded.append(velocity_field(current.vectors, SIZE_HW)[:, ::2, ::2] * since_s)
        measured.append(tvl1(previous.y, current.y)[:, ::2, ::2])
    ours, theirs = np.stack(coded, axis=1), np.stack(measured, axis=1)  # (2, T, H / 2, W / 2)
    moving = np.hypot(*theirs) > MOVING_PX
    shares = counts.shares()
    assert shares is not None
    return {
        "clip": path.stem,
        "frames": len(frames),
        "correlation_u": correlation(ours[0], theirs[0]),
        "correlation_v": correlation(ours[1], theirs[1]),
        "moving_share": float(moving.mean()),
        "distance_px": float(np.hypot(*(ours - theirs))[moving].mean()),
        "distance_of_no_motion_px": float(np.hypot(*theirs)[moving].mean()),
        **shares,
    }


def correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def processor_ms(work: Callable[[], Any], times: int) -> float:
    """Processor time of `work`, of all threads, divided by `times`."""
    began_s = time.process_time()
    work()
    return 1e3 * (time.process_time() - began_s) / times


def measure_all(motion: Motion, pairs: list[tuple[Frame, Frame]]) -> None:
    """Without keeping the flows: new memory for each would take longer than some methods."""
    for pair in pairs:
        motion(*pair)


def time_parts(path: Path, rounds: int) -> dict[str, float]:
    """Medians, ms of processor time a frame."""
    tvl1, codec = TVL1Motion(FAST, SIZE_HW), CodecMotion(CODEC, SIZE_HW)
    frames = [resize_to_model(frame, VIEW) for frame in read(path, vectors=True, limit=TIMED)]
    pairs, count = list(pairwise(frames)), len(frames)
    parts: dict[str, Callable[[], Any]] = {
        "decode": lambda: read(path, vectors=False, limit=count),
        "decode_with_vectors": lambda: read(path, vectors=True, limit=count),
        "field": lambda: measure_all(codec, pairs),
        "tvl1": lambda: measure_all(tvl1, pairs),
    }
    times_ms: dict[str, list[float]] = {name: [] for name in parts}
    for part in parts.values():  # everything is compiled and in the disk's cache
        part()
    for _ in range(rounds):
        for name, part in parts.items():
            times_ms[name].append(processor_ms(part, count))
    return {name: statistics.median(values) for name, values in times_ms.items()}


def cost(times: list[dict[str, float]]) -> dict[str, float]:
    """The medians over the clips, and what motion vectors cost beside TV-L1."""
    medians = {f"{name}_ms": statistics.median(row[name] for row in times) for name in times[0]}
    extra = [row["decode_with_vectors"] - row["decode"] + row["field"] for row in times]
    ratios = [row["tvl1"] / one for row, one in zip(times, extra, strict=True)]
    return medians | {
        "vectors_cost_ms": statistics.median(extra),
        "tvl1_to_vectors": statistics.median(ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = os.environ.get("UCF101_ROOT", "../shared/ucf101")
    parser.add_argument("--data", type=Path, default=Path(root))
    parser.add_argument("--clips", type=int, default=10, help="compared; half of them are timed")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    clips = spread(sorted((arguments.data / "UCF-101").glob("*/*.avi")), arguments.clips)
    tvl1 = TVL1(FAST, SIZE_HW)
    rows = []
    for path in clips:
        rows.append(compare(path, tvl1))
        cells = (f"{v:>8.3f}" if isinstance(v, float) else f"{v!s:>30}" for v in rows[-1].values())
        print(" ".join(cells), flush=True)
    costs = cost([time_parts(path, arguments.rounds) for path in clips[::2]])
    print(", ".join(f"{name} {value:.3f}" for name, value in costs.items()))
    if arguments.json:
        write_result(arguments.json, {"size": "224x224", "rows": rows, "cost": costs})


if __name__ == "__main__":
    main()
