"""How cost grows with what can be larger: measured at four sizes each, with the exponent that fits.

    python -m tests.benchmarks.growth --json FILE --picture FILE.png

An exponent of 1 is linear; what is fixed makes it smaller. Each time is the median of rounds in
which all sizes take turns, so that a busy machine disturbs all of them. Clips of training and
calibration are made ones: what they show does not change what they cost.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from calibration.quantise import quantise_model
from edge.bundle.float_onnx import float_onnx, load_model
from edge.bundle.manifest import Bundle, load_bundle
from edge.commands.bench.clip import write_bench_clip
from edge.commands.self_check.choice import choose_way
from edge.decision.decide import DecisionWindow
from edge.decision.fuser import open_fuser
from edge.decision.recognizer import Recognizer, RunConfig, label_frame
from edge.devices import open_device
from edge.errors import BenchError
from edge.files import write_atomic
from edge.motion.quantise import FlowBytes
from edge.motion.spec import PRESETS
from edge.motion.stack import stack_flows
from edge.motion.tvl1 import TVL1
from edge.sources.source import open_source
from edge.video.frames import Frame, Geometry, resize_to_model
from tests.benchmarks.result import write_result
from tests.support.paths import REPOSITORY
from train.data.splits import hold_out
from train.data.ucf101 import load_split
from train.recipe import load_recipe
from train.training.job import Job, JobOptions, run_job

mpl.use("Agg")
from matplotlib import pyplot

from tests.support import tiny

Work = Callable[[], None]
LINEAR = 1.15  # what noise, and outgrowing a cache, make of an exponent of 1


def median_times(works: dict[int, Work], rounds: int) -> dict[int, float]:
    """Size -> seconds."""
    times: dict[int, list[float]] = {size: [] for size in works}
    for work in works.values():
        work()
    for _ in range(rounds):
        for size, work in works.items():
            began_s = time.perf_counter()
            work()
            times[size].append(time.perf_counter() - began_s)
    return {size: statistics.median(found) for size, found in times.items()}


def exponent(times: dict[int, float]) -> float:
    sizes = np.log(list(times))
    return float(np.polyfit(sizes, np.log(list(times.values())), 1)[0])


def picture(height: int, width: int, shift: int = 0) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    return (126 + 60 * np.sin((x - shift) / 9) * np.sin(y / 11)).astype(np.uint8)


def by_source_size(folder: Path) -> dict[int, Work]:
    """Pixels of the camera -> decoding and bringing 60 frames to the model's size."""
    geometry = Geometry(aspect=(4, 3), size_hw=(224, 224), interpolation="area")

    def work(path: Path) -> None:
        with open_source(str(path)) as source:
            for frame in source:
                resize_to_model(frame, geometry)

    works: dict[int, Work] = {}
    for height, width in ((240, 320), (480, 640), (720, 960), (1080, 1440)):
        path = write_bench_clip(folder / f"{height}.mp4", frames=60, size_hw=(height, width))
        works[height * width] = lambda path=path: work(path)  # type: ignore[misc]
    return works


def by_model_size() -> dict[int, Work]:
    """Pixels of the model -> TV-L1 `fast` of a pair."""
    works: dict[int, Work] = {}
    for side in (112, 160, 224, 320):
        tvl1 = TVL1(PRESETS["fast"], (side, side))
        pair = picture(side, side), picture(side, side, 2)
        works[side * side] = lambda t=tvl1, p=pair: [t(*p) for _ in range(5)] and None  # type: ignore[misc]
    return works


def by_window(bundle: Bundle) -> dict[int, Work]:
    """Flows in a stack -> making a network's input of them, in place, ten times."""
    works: dict[int, Work] = {}
    for length in (5, 10, 20, 40):
        flows = [np.full((2, 224, 224), 120 + k, np.uint8) for k in range(length)]
        out = np.zeros((2 * length, 224, 224), np.uint8)

        def work(flows: list[FlowBytes] = flows, out: NDArray[np.uint8] = out) -> None:
            for _ in range(10):
                stack_flows(flows, out)

        works[length] = work
    return works


def by_classes(bundle: Bundle) -> dict[int, Work]:
    """Classes -> from all networks' logits to a decision, 200 times."""
    manifest = bundle.manifest
    fuser = open_fuser(manifest, None)
    random = np.random.default_rng(0)
    works: dict[int, Work] = {}
    for count in (10, 100, 1000, 10000):
        names = tuple(f"action {k}" for k in range(count))
        logits = {s: random.standard_normal(count).astype(np.float32) for s in manifest.streams}

        def work(
            logits: dict[str, NDArray[np.float32]] = logits, names: tuple[str, ...] = names
        ) -> None:
            for _ in range(200):
                window = DecisionWindow(manifest.decision, names)
                window.push(0.0, logits, fuser.push(0.0, logits).fused)

        works[count] = work
    return works


def by_cameras(bundle: Bundle) -> dict[int, Work]:
    """Cameras on one pair of networks -> 15 frames of each, labelled in turn."""
    device = open_device("cpu", bundle, choose=choose_way)
    chroma = np.full((120, 160), 128, np.uint8)
    lumas = [picture(240, 320, 2 * k) for k in range(15)]

    def work(count: int) -> None:
        recognisers = [
            Recognizer(bundle.manifest, device.open_context(), RunConfig()) for _ in range(count)
        ]
        for index, luma in enumerate(lumas):
            for recognizer in recognisers:
                frame = Frame(luma, chroma, chroma, index / 25, index)
                label_frame(frame, recognizer, lambda _: None)

    return {count: lambda count=count: work(count) for count in (1, 2, 4, 8)}  # type: ignore[misc]


def by_calibration_clips(bundle: Bundle) -> dict[int, Work]:
    """Samples -> ranges and INT8 of the first network by min-max, judged on four samples."""
    stream = next(iter(bundle.manifest.streams.values()))
    model = load_model(float_onnx(bundle.read(stream.file), "fp32"))
    random = np.random.default_rng(0)
    samples = [
        random.standard_normal((stream.input.channels, 224, 224)).astype(np.float32)
        for _ in range(64)
    ]
    return {
        count: lambda count=count: (
            quantise_model(  # type: ignore[misc]
                load_model(model.SerializeToString()), samples[:count], samples[:4], "min-max"
            )
            and None
        )
        for count in (8, 16, 32, 64)
    }


def by_training_clips(folder: Path) -> dict[int, Work]:
    """Clips -> an epoch of a small spatial network over all of them, its cache being there."""
    data = tiny.write_dataset(folder / "ucf")
    clips, held = hold_out(load_split(data, 1).train, tiny.CLASSES, 0.15)
    works: dict[int, Work] = {}
    for copies in (8, 16, 32, 64):

        def work(copies: int = copies) -> None:
            changes = (*tiny.CHANGES, f"sampling.repeats={copies}", "schedule.epochs=1")
            recipe = load_recipe("default", "spatial", changes)
            job = Job("spatial", tiny.CLASSES, 1, clips, held, recipe, PRESETS["fast"])
            with tempfile.TemporaryDirectory() as out:
                run_job(job, JobOptions(Path(out), "", 0, 1e9, 1, folder / "cache"))

        works[copies * len(clips)] = work
    return works


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--bundle", type=Path, default=REPOSITORY / "edge" / "bundles" / "ucf101-mini"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle)
    found: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, works, rounds in (
            ("pixels of the source: decode and resize", by_source_size(folder), 5),
            ("pixels of the model: flow", by_model_size(), 15),
            ("flows in a stack: the network's input", by_window(bundle), 15),
            ("classes: from logits to a decision", by_classes(bundle), 5),
            ("cameras: frames of all of them", by_cameras(bundle), 5),
            ("calibration samples", by_calibration_clips(bundle), 2),
            ("training samples: one epoch", by_training_clips(folder), 2),
        ):
            times = median_times(works, rounds)
            power = exponent(times)
            verdict = "no worse than linear" if power <= LINEAR else "WORSE THAN LINEAR"
            cells = ", ".join(f"{size}: {1e3 * t:.1f} ms" for size, t in times.items())
            print(f"{title}: exponent {power:.2f}, {verdict} ({cells})", flush=True)
            found[title] = {
                "exponent": round(power, 3),
                "seconds": {str(size): round(t, 6) for size, t in times.items()},
            }
    if arguments.json:
        write_result(arguments.json, found)
    if arguments.picture:
        draw(found, arguments.picture)


def draw(found: dict[str, dict[str, object]], path: Path) -> None:
    figure, axis = pyplot.subplots(figsize=(8, 5))
    for title, row in found.items():
        seconds = row["seconds"]
        assert isinstance(seconds, dict)
        sizes = np.array([float(size) for size in seconds])
        times = np.array(list(seconds.values()))
        label = f"{title} ({row['exponent']})"
        axis.plot(sizes / sizes[0], times / times[0], "o-", label=label)
    axis.plot([1, 1000], [1, 1000], color="black", linestyle=":", label="linear")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(0.9, 30)
    axis.set_ylim(0.8, 30)
    axis.set_xlabel("times as much")
    axis.set_ylabel("times as long")
    axis.legend(fontsize=7)
    figure.tight_layout()
    with write_atomic(path, BenchError) as file:
        figure.savefig(file, dpi=120, format="png")


if __name__ == "__main__":
    main()
