"""Bundles of any number of streams, with networks so small that they are made in the test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge.bundle.manifest import (
    Bundle,
    DecisionSpec,
    FusionSpec,
    Manifest,
    MeanScores,
    ParitySpec,
    RecurrentLogits,
    StreamSpec,
    load_bundle,
    sha256,
    write_manifest,
)
from edge.bundle.parity import write_parity
from edge.bundle.tensor_names import INPUT, OUTPUT, next_state
from edge.inputs.flow_stack import FlowInput
from edge.inputs.rgb import RGBInput
from edge.inputs.rgb_online import RGBOnlineInput
from edge.motion.spec import PRESETS
from edge.video.frames import Frame, Geometry, Normalisation
from export.parity import make_parity

CLASSES = ("Diving", "Drumming", "Surfing")
DEMO_CLASSES = (
    "Biking",
    "Diving",
    "Drumming",
    "JugglingBalls",
    "JumpRope",
    "SkyDiving",
    "Surfing",
    "Swing",
)
SIDE = 64
PARITY_HW = (96, 128)
FAST = PRESETS["fast"]
GENTLE = FAST.model_copy(update={"warps": 1})  # another method of motion, as far as keys go
RGB = RGBInput(kind="rgb", frames=1, interval_s=FAST.interval_s)


def flow_input(stack: int, motion: Any = FAST) -> FlowInput:
    return FlowInput(kind="flow", stack=stack, layout="grouped", motion=motion)


STREAMS: dict[str, dict[str, Any]] = {
    "one": {"temporal": flow_input(3)},
    "picture": {"spatial": RGB},
    "three": {"spatial": RGB, "temporal": flow_input(5), "slow": flow_input(3, GENTLE)},
}


def tiny_network(channels: int, seed: int, count: int = len(CLASSES)) -> bytes:
    """(1, channels, SIDE, SIDE) -> (1, count): means of the channels through a layer with Q/DQ."""
    random = np.random.default_rng(seed)
    weights = random.integers(-127, 128, (count, channels, 1, 1), np.int8)
    tensors = {
        "scale": np.float32(0.05),
        "zero": np.int8(0),
        "weight_scale": np.full(count, 0.01, np.float32),
        "weight_zero": np.zeros(count, np.int8),
        "weights": weights,
        "shape": np.array([1, count], np.int64),
    }
    nodes = [
        helper.make_node("QuantizeLinear", [INPUT, "scale", "zero"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["x"], "dq"),
        helper.make_node(
            "DequantizeLinear", ["weights", "weight_scale", "weight_zero"], ["w"], "wdq", axis=0
        ),
        helper.make_node("Conv", ["x", "w"], ["maps"], "conv"),
        helper.make_node("GlobalAveragePool", ["maps"], ["means"], "pool"),
        helper.make_node("Reshape", ["means", "shape"], [OUTPUT], "flat"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, (1, channels, SIDE, SIDE))],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, (1, count))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def online_input(step_interval_s: float = 0.12) -> RGBOnlineInput:
    """Of `tiny_online_network`, three frames a step at 25 a second."""
    return RGBOnlineInput(
        kind="rgb_online",
        frames=4,
        interval_s=FAST.interval_s,
        step_interval_s=step_interval_s,
        state={"earlier": (1, 1, SIDE, SIDE)},
    )


def tiny_online_network(seed: int, count: int) -> bytes:
    """A `tiny_network` whose first channel is that of the step before."""
    model = onnx.load_model_from_string(tiny_network(3, seed, count))
    graph, shape = model.graph, (1, 1, SIDE, SIDE)
    bounds = {"from": [0], "to": [1], "end": [3], "channels": [1]}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.int64), name) for name, value in bounds.items()
    )
    graph.node[0].input[0] = "shifted"
    nodes = [
        helper.make_node("Slice", [INPUT, "from", "to", "channels"], [next_state("earlier")]),
        helper.make_node("Slice", [INPUT, "to", "end", "channels"], ["rest"]),
        helper.make_node("Concat", ["earlier", "rest"], ["shifted"], axis=1),
        *graph.node,
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info("earlier", TensorProto.FLOAT, shape))
    after = helper.make_tensor_value_info(next_state("earlier"), TensorProto.FLOAT, shape)
    graph.output.append(after)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def tiny_of(spec: Any, seed: int, count: int) -> bytes:
    """The network for this input."""
    if isinstance(spec, RGBOnlineInput):
        return tiny_online_network(seed, count)
    return tiny_network(spec.channels, seed, count)


def noise_frames(count: int, size_hw: tuple[int, int]) -> list[Frame]:
    """A texture that drifts, in limited range."""
    random = np.random.default_rng(7)
    height, width = size_hw
    wide = random.integers(40, 200, (height, width + 4 * count), np.uint8)
    chroma = random.integers(90, 160, (2, height // 2, width // 2), np.uint8)
    return [
        Frame(np.ascontiguousarray(wide[:, 2 * i : 2 * i + width]), *chroma, 0.04 * i, i)
        for i in range(count)
    ]


ARITHMETIC = MeanScores(kind="arithmetic", temperature=1.0)


def write_bundle(
    folder: Path,
    inputs: dict[str, Any],
    fusion: FusionSpec = ARITHMETIC,
    fusion_file: bytes | None = None,
    window_s: float = 1.0,
    frames: Sequence[Frame] | None = None,
    classes: tuple[str, ...] = CLASSES,
) -> Bundle:
    """A bundle of these streams, with parity samples that this machine's CPU device gives.
    fusion_file: the network of a recurrent fusion. window_s: of what is shown and what decides.
    frames: of the parity samples, PARITY_HW each; None: `noise_frames`."""
    folder.mkdir()
    streams, files = {}, {}
    if isinstance(fusion, RecurrentLogits) and fusion_file is not None:
        (folder / fusion.file).write_bytes(fusion_file)
        files[fusion.file] = sha256(fusion_file)
    for seed, (name, spec) in enumerate(inputs.items()):
        data = tiny_of(spec, seed, len(classes))
        (folder / f"{name}.onnx").write_bytes(data)
        files[f"{name}.onnx"] = sha256(data)
        normalisation = Normalisation(mean=(0.5,) * spec.means, std=(0.25,) * spec.means)
        streams[name] = StreamSpec(
            file=f"{name}.onnx",
            backbone="tiny",
            input=spec,
            normalisation=normalisation,
            temperature=1.0,
            weight=1.0 + seed,
        )
    manifest = Manifest(
        schema_version=4,
        name="tiny",
        classes=classes,
        geometry=Geometry(aspect=(4, 3), size_hw=(SIDE, SIDE), interpolation="area"),
        streams=streams,
        fusion=fusion,
        decision=DecisionSpec(
            kind="margin",
            window_s=window_s,
            threshold=0.1,
            hold=0.6,
            false_alarm_rate=0.05,
            validation=None,
            test=None,
            footage=None,
        ),
        parity=ParitySpec(file="parity.npz", size_hw=PARITY_HW, tolerance=0.05),
        accepted_loss=None,
        files=files | {"parity.npz": "0" * 64},
    )
    frames = frames or noise_frames(manifest.history + 4, PARITY_HW)
    run = make_parity(Bundle(folder, manifest), frames)
    write_parity(folder / "parity.npz", run)
    known = files | {"parity.npz": sha256((folder / "parity.npz").read_bytes())}
    write_manifest(folder, manifest.model_copy(update={"files": known}))
    return load_bundle(folder)


def thresholds_that_anything_reaches(bundle: Path) -> list[str]:
    """Options of `run`: one of the bundle's actions is reported, whatever there is to see."""
    classes = load_bundle(bundle).manifest.classes
    return [word for name in classes for word in ("--threshold", f"{name}=0.001")]
