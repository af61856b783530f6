"""Networks with ImageNet weights and few classes, and inputs for them, for tests of INT8."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import nn

from edge.bundle.network import NetworkSpec
from edge.motion.spec import PRESETS
from train.data.clips import Clip
from train.models.backbone import pretrained_network
from train.models.spec import network_spec
from train.streams import STREAMS as KNOWN

CLASSES = ("Biking", "Diving", "Drumming")
STREAMS = tuple(KNOWN)


def make_spec(stream: str, train: list[Clip] | None = None) -> NetworkSpec:
    placeholder = [Clip("Biking/v_Biking_g08_c01.avi", None, "Biking", "08")]  # type: ignore[arg-type]
    return network_spec(stream, CLASSES, PRESETS["fast"], 1, train or placeholder, [])


def make_network(stream: str) -> nn.Module:
    torch.manual_seed(3)
    spec = make_spec(stream)
    network, _ = pretrained_network(spec.backbone, spec.channels, len(CLASSES), 0.0, "package")
    network.eval()
    nn.init.normal_(network.get_parameter("classifier.weight"), std=0.05)  # it starts at zero
    return network


def moving_patterns(stream: str, count: int) -> list[NDArray[np.float32]]:
    """Inputs (channels, 224, 224): drifting waves and edges, in flow over a still background."""
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[0:224, 0:224] / 224.0
    channels = make_spec(stream).channels
    inputs = []
    for _ in range(count):
        angle, pitch = rng.uniform(0, np.pi), rng.uniform(3, 30)
        phases = rng.uniform(0, 2 * np.pi) + np.arange(channels) * rng.uniform(0.0, 0.5)
        wave = np.cos(angle) * rows + np.sin(angle) * columns
        field = np.sin(2 * np.pi * pitch * wave + phases[:, None, None])  # (channels, H, W)
        field = np.where(np.hypot(rows - 0.5, columns - 0.5) < 0.3, np.sign(field), 0.6 * field)
        if stream == "temporal":
            field = field * (rows > rng.uniform(0.2, 0.7))
        inputs.append(field.astype(np.float32))
    return inputs


def residual_network() -> onnx.ModelProto:
    """input (1, 4, 8, 8) -> Conv -> Clip -> Conv, + skip -> Conv -> pool -> Gemm -> logits."""
    rng = np.random.default_rng(1)
    weights = {f"w{i}": rng.standard_normal((4, 4, 1, 1)).astype(np.float32) for i in range(3)} | {
        "b0": np.ones(4, np.float32),
        "wg": rng.standard_normal((3, 4)).astype(np.float32),
        "low": np.array(0, np.float32),
        "high": np.array(6, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w0", "b0"], ["c0"], "conv0"),
        helper.make_node("Clip", ["c0", "low", "high"], ["r0"], "clip0"),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], "conv1"),
        helper.make_node("Add", ["c1", "r0"], ["sum"], "add"),
        helper.make_node("Conv", ["sum", "w2"], ["c2"], "conv2"),
        helper.make_node("GlobalAveragePool", ["c2"], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "wg"], ["logits"], "gemm", transB=1),
    ]
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("input", floats, [1, 4, 8, 8])],
        [helper.make_tensor_value_info("logits", floats, [1, 3])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
