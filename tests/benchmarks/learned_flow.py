"""The flow of a network of motion beside TV-L1's and no motion, on two pairs with known flow.

    python -m tests.benchmarks.learned_flow CHECKPOINT... [--data FOLDER] [--json FILE]

CHECKPOINT: of `twostream train-motion`. All methods see the pair as the network does: the whole
picture, resized to its view. Their flow is enlarged to the pair's own size, and the mean endpoint
error is in px of that, over the pixels whose truth is known. A network sees a stack: the first
picture some times, then the second for the rest. Errors are means over all places of the step, each
with its own flow; `still_px` is the mean length of the other flows of the stacks, px of the view,
which should be 0.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from edge.motion.spec import PRESETS
from edge.motion.stack import normalise_bytes
from edge.motion.tvl1 import TVL1
from tests.benchmarks.result import write_result
from tests.support.flows import FLOW_ROOT, PAIRS, endpoint_error, read_flo, read_luma
from train.models.motion_checkpoint import MotionNetSpec, load_motion
from train.models.motionnet import MotionNet

Pictures = tuple[NDArray[np.uint8], NDArray[np.uint8]]
Flow = NDArray[np.float32]  # (2, H, W), px


def enlarged(flow: Flow, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> Flow:
    """Flow (2, h, w) in px of a picture of `from_hw`, at `to_hw` and in its px."""
    planes = [cv2.resize(plane, to_hw[::-1], interpolation=cv2.INTER_LINEAR) for plane in flow]
    factors = np.float32([to_hw[1] / from_hw[1], to_hw[0] / from_hw[0]])
    return np.stack(planes) * factors[:, None, None]


def network_flows(
    network: MotionNet, spec: MotionNetSpec, pair: Pictures
) -> tuple[list[Flow], float]:
    """The flow of the pair for each place of its step in the stack, and the mean length, px, of the
    other flows of these stacks."""
    flows, still = [], []
    for place in range(spec.input.frames - 1):
        stack = np.stack([pair[int(index > place)] for index in range(spec.input.frames)])
        values = normalise_bytes(stack, spec.normalisation)
        with torch.inference_mode():
            found = network(torch.from_numpy(values)[None])[0].numpy()
        u, v = np.split(found, 2)  # (L, h, w) each
        flows.append(np.stack([u[place], v[place]]))
        others = np.delete(np.hypot(u, v), place, axis=0)
        still.append(float(others.mean()))
    return flows, float(np.mean(still))


def measure_network(file: Path, data: Path) -> dict[str, Any]:
    network, spec = load_motion(file)
    size_hw = spec.geometry.size_hw

    def flows(pair: Pictures) -> tuple[list[Flow], float]:
        return network_flows(network, spec, pair)

    row = measure(flows, size_hw, data)
    recipe = spec.recipe
    taught = "" if recipe.teacher == "none" else f", taught by TV-L1 {recipe.teacher}"
    steps = f"{recipe.steps} steps of {recipe.batch}"
    return {"method": f"{spec.network}, {steps}{taught}", "view_px": size_hw[0]} | row


def measure(
    flows: Callable[[Pictures], tuple[list[Flow], float]], size_hw: tuple[int, int], data: Path
) -> dict[str, float]:
    row = {}
    for name, (first, second, truth_file) in PAIRS.items():
        truth = read_flo(data / truth_file)
        one, other = (
            cv2.resize(read_luma(data / file), size_hw[::-1], interpolation=cv2.INTER_AREA)
            for file in (first, second)
        )
        found, still_px = flows((one, other))  # type: ignore[arg-type]
        errors = [
            endpoint_error(enlarged(flow, size_hw, truth.shape[1:]), truth)  # type: ignore[arg-type]
            for flow in found
        ]
        row[f"{name}_epe_px"] = round(float(np.mean(errors)), 3)
        row[f"{name}_still_px"] = round(still_px, 3)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, default=FLOW_ROOT, help="folder of the two pairs")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    rows = [measure_network(file, arguments.data) for file in arguments.checkpoints]
    size_hw = (rows[0]["view_px"], rows[0]["view_px"])
    for name, spec in PRESETS.items():
        tvl1 = TVL1(spec, size_hw)
        found = measure(lambda pair, tvl1=tvl1: ([tvl1(*pair)], 0.0), size_hw, arguments.data)
        rows.append({"method": f"TV-L1 {name}", "view_px": size_hw[0]} | found)
    still = np.zeros((2, *size_hw), np.float32)
    found = measure(lambda pair: ([still], 0.0), size_hw, arguments.data)
    rows.append({"method": "no motion", "view_px": size_hw[0]} | found)
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    if arguments.json:
        write_result(arguments.json, {"rows": rows})


if __name__ == "__main__":
    main()
