"""What others would use for each part, in one run: ratios to ours.

    python -m tests.benchmarks.peers --data FOLDER --json FILE

Flow: OpenCV's DIS, Farneback and DualTVL1, one thread each. Decoding: PyAV and OpenCV on the same
H.264 clip. Networks: onnxruntime on the same INT8 files, one thread each. The Keras project that
this one descends from predicts each stream's network frame by frame in FP32: its cost is that of a
forward pass of Xception in torch for RGB and another for flow; its flow it takes from files.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import onnxruntime
import timm
import torch

from edge.bundle.manifest import Bundle, load_bundle
from edge.bundle.tensor_names import INPUT
from edge.commands.bench.clip import write_bench_clip
from edge.commands.self_check.choice import choose_way
from edge.devices import open_device
from edge.inputs.builder import input_dtype
from edge.sources.source import open_source
from tests.benchmarks.flow import methods
from tests.benchmarks.growth import picture
from tests.benchmarks.result import write_result
from tests.support.paths import REPOSITORY

Work = Callable[[], object]


def medians_ms(works: dict[str, Work], rounds: int) -> dict[str, float]:
    """All of them in turn."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            began_s = time.perf_counter()
            work()
            times[name].append(1e3 * (time.perf_counter() - began_s))
    return {name: statistics.median(found) for name, found in times.items()}


def flows() -> dict[str, Work]:
    pair = picture(224, 224), picture(224, 224, 2)
    return {
        name: lambda m=method: m(*pair)  # type: ignore[misc]
        for name, method in methods((224, 224)).items()
    }


def decoders(path: Path) -> dict[str, Work]:
    """Of a whole clip, to I420 in memory."""

    def gstreamer() -> int:
        with open_source(str(path)) as source:
            return sum(frame.y.shape[0] for frame in source)

    def pyav() -> int:
        with av.open(str(path)) as container:
            return sum(f.to_ndarray(format="yuv420p").shape[0] for f in container.decode(video=0))

    def opencv() -> int:
        capture, rows = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), 0
        while True:
            known, bgr = capture.read()
            if not known:
                return rows
            rows += cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420).shape[0]

    return {"twostream (GStreamer)": gstreamer, "PyAV": pyav, "OpenCV": opencv}


def networks(bundle: Bundle) -> dict[str, Work]:
    """All streams, one after the other."""
    manifest = bundle.manifest
    device = open_device("cpu", bundle, choose=choose_way)
    shapes = {name: stream.input.channels for name, stream in manifest.streams.items()}
    levels = {
        s: np.random.default_rng(0).integers(0, 256, (c, *manifest.geometry.size_hw))
        for s, c in shapes.items()
    }
    filled = {s: levels[s].astype(input_dtype(manifest.streams[s].input)) for s in shapes}
    tensors = {s: (levels[s] / 128 - 1).astype(np.float32) for s in shapes}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {
        name: onnxruntime.InferenceSession(bundle.read(stream.file), options)
        for name, stream in manifest.streams.items()
    }
    torch.set_num_threads(1)
    seed = {
        s: timm.create_model("legacy_xception", num_classes=101, in_chans=c).eval()
        for s, c in shapes.items()
    }
    frames = {s: torch.zeros(1, c, 299, 299) for s, c in shapes.items()}

    def predict() -> None:
        with torch.inference_mode():
            for stream in shapes:
                seed[stream](frames[stream])

    return {
        "twostream (OpenVINO), INT8": lambda: [
            device.logits(s, filled[s][None], [0.0]) for s in shapes
        ],
        "onnxruntime, the same INT8 files": lambda: [
            sessions[s].run(None, {INPUT: tensors[s][None]}) for s in shapes
        ],
        "the Keras project's networks: Xception, 299 px, FP32, torch": predict,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--bundle", type=Path, default=REPOSITORY / "edge" / "bundles" / "ucf101-mini"
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        clip = write_bench_clip(Path(folder) / "clip.mp4")
        parts = {
            "flow of a pair, 224 x 224": flows(),
            "decoding 300 frames of 320 x 240": decoders(clip),
            "both networks for one frame": networks(load_bundle(arguments.bundle)),
        }
        for part, works in parts.items():
            times = medians_ms(works, arguments.rounds)
            ours = next(iter(times.values()))
            print(f"{part}: ours {ours:.2f} ms")
            for name, value in times.items():
                print(f"  {name:60} {value:9.2f} ms, {value / ours:7.2f} of ours")
            found[part] = {
                name: {"ms": round(value, 3), "of_ours": round(value / ours, 3)}
                for name, value in times.items()
            }
    if arguments.json:
        write_result(arguments.json, found)


if __name__ == "__main__":
    main()
