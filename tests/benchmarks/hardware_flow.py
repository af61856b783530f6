"""What the format of optical flow hardware costs a temporal network that was trained on TV-L1.

    python -m tests.benchmarks.hardware_flow [--bundle FOLDER] [--data UCF101] [--snippets N]
        [--json FILE]

TV-L1, as the bundle has it, in the hardware's format: a vector for each cell of a grid of 1, 2 or 4
px, in quarters of a px (see tests/support/hardware_flow.py). The network is the bundle's own, as it
is, computed as its file says. Test clips of the bundle's classes; the same snippets for all. It
says nothing of how well hardware finds the motion.
"""

from __future__ import annotations

import argparse
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Bundle, load_bundle
from edge.decision.fusion import softmax
from edge.devices.cpu import network_files
from edge.devices.inference import Network
from edge.devices.openvino import LITERAL, open_network
from edge.inputs.builder import fill_input
from edge.motion.method import Motion
from edge.motion.ofa import OFAMotion, ofa_spec
from edge.motion.preprocessor import Step
from edge.motion.quantise import FlowBytes, quantise, to_pixels
from edge.motion.spec import TVL1Spec
from edge.motion.tvl1 import TVL1
from edge.video.clip import open_clip
from edge.video.frames import Frame, Plane, resize_to_model
from tests.benchmarks.result import write_result
from tests.support.hardware_flow import stand_in
from train.data.clips import Clip
from train.data.dataset import open_dataset

GRIDS = (1, 2, 4)


class Once:
    """TV-L1 that measures a pair once for all that want it one after the other."""

    def __init__(self, spec: TVL1Spec, size_hw: tuple[int, int]) -> None:
        self._tvl1 = TVL1(spec, size_hw)
        self._pair: tuple[Plane, Plane] | None = None

    def __call__(self, previous: Plane, current: Plane) -> NDArray[np.float32]:
        known = self._pair
        if known is None or known[0] is not previous or known[1] is not current:
            self._pair, self._flow = (previous, current), self._tvl1(previous, current)
        return self._flow


def methods(bundle: Bundle, stream: str) -> dict[str, Motion]:
    """TV-L1 as the bundle has it, and in the hardware's format."""
    size_hw = bundle.manifest.geometry.size_hw
    spec = bundle.manifest.streams[stream].input.motion
    once = Once(spec, size_hw)

    def as_trained(previous: Frame, current: Frame) -> FlowBytes:
        return quantise(once(previous.y, current.y), spec, current.time_s - previous.time_s)

    found: dict[str, Any] = {"as trained": as_trained}
    for grid in GRIDS:
        found[f"grid {grid}"] = OFAMotion(ofa_spec(grid), size_hw, stand_in(size_hw, grid, once))
    return found


def snippets(path: Path, bundle: Bundle, history: int, count: int) -> list[list[Frame]]:
    """`count` runs of history + 1 frames, evenly spaced."""
    with open_clip(path, quiet=True) as clip:
        frames = [resize_to_model(frame, bundle.manifest.geometry) for frame in clip]
    ends = np.linspace(history, len(frames) - 1, count).round().astype(int)
    return [frames[end - history : end + 1] for end in ends]


def measured(found: dict[str, Motion], run: list[Frame]) -> dict[str, list[FlowBytes]]:
    """The flows of a run by each method, pair by pair."""
    flows: dict[str, list[FlowBytes]] = {name: [] for name in found}
    for pair in pairwise(run):
        for name, motion in found.items():
            flows[name].append(motion(*pair))
    return flows


def logits(
    bundle: Bundle, stream: str, network: Network, run: list[Frame], flows: list[FlowBytes]
) -> NDArray[np.float32]:
    """Logits (C,) of one stack."""
    spec = bundle.manifest.streams[stream]
    steps = [
        Step(frame, {spec.input.motion: flow}) for frame, flow in zip(run[1:], flows, strict=True)
    ]
    size_hw = bundle.manifest.geometry.size_hw
    return network.infer(fill_input(spec.input, size_hw, spec.normalisation, steps)[None])[0]


def measure(bundle: Bundle, stream: str, clips: list[Clip], count: int) -> list[dict[str, Any]]:
    spec = bundle.manifest.streams[stream].input
    network = open_network(network_files(bundle)[stream], LITERAL)
    found = methods(bundle, stream)
    scores: dict[str, list[list[NDArray[np.float32]]]] = {name: [] for name in found}
    differences: dict[str, list[float]] = {name: [] for name in found}
    for clip in clips:
        for rows in scores.values():
            rows.append([])
        for run in snippets(clip.path, bundle, spec.history, count):
            flows = measured(found, run)
            exact = to_pixels(np.stack(flows["as trained"]), spec.motion)
            for name, each in flows.items():
                row = logits(bundle, stream, network, run, each)
                scores[name][-1].append(softmax(row[None], 1.0)[0])
                difference = to_pixels(np.stack(each), spec.motion) - exact  # (L, 2, H, W)
                differences[name].append(float(np.hypot(*difference.swapaxes(0, 1)).mean()))
        print(clip.name, flush=True)
    tables = {name: np.array(rows) for name, rows in scores.items()}  # (clips, N, C)
    truth = np.array([bundle.manifest.classes.index(clip.label) for clip in clips])
    return [
        compare(name, table, tables["as trained"], truth)
        | {"flow_difference_px": float(np.mean(differences[name]))}
        for name, table in tables.items()
    ]


def compare(
    name: str, scores: NDArray[np.float32], trained: NDArray[np.float32], truth: NDArray[np.int64]
) -> dict[str, Any]:
    """Scores (clips, N, C) beside those of the flow that the network was trained on."""
    return {
        "flow": name,
        "clips": len(truth),
        "top1": float((scores.mean(axis=1).argmax(axis=1) == truth).mean()),
        "snippets": scores.shape[0] * scores.shape[1],
        "top1_of_snippets": float((scores.argmax(axis=2) == truth[:, None]).mean()),
        "same_best_class": float((scores.argmax(axis=2) == trained.argmax(axis=2)).mean()),
        "mean_score_difference": float(np.abs(scores - trained).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = os.environ.get("UCF101_ROOT", "../shared/ucf101")
    parser.add_argument("--bundle", type=Path, default=Path("edge/bundles/ucf101-mini"))
    parser.add_argument("--stream", default="temporal")
    parser.add_argument("--data", type=Path, default=Path(root))
    parser.add_argument("--snippets", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle)
    split = open_dataset(arguments.data, 1)
    clips = [clip for clip in split.test if clip.label in bundle.manifest.classes]
    rows = measure(bundle, arguments.stream, clips, arguments.snippets)
    for row in rows:
        cells = (f"{v:.4f}" if isinstance(v, float) else str(v) for v in row.values())
        print("  ".join(f"{key} {cell}" for key, cell in zip(row, cells, strict=True)))
    if arguments.json:
        write_result(arguments.json, {"rows": rows})


if __name__ == "__main__":
    main()
