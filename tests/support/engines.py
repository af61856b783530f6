"""Bundles and networks, whole and broken on purpose, for tests of engines."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edge.bundle.manifest import MANIFEST, Bundle, load_bundle, sha256
from edge.devices.tensorrt.key import GPU
from edge.inputs.builder import build_input
from edge.motion.preprocessor import Preprocessor
from tests.support.parity import panning_frames

ORIN = GPU("Orin", "8.7", 8)
STREAMS = ("spatial", "temporal")


def copy_bundle(source: Path, folder: Path) -> Bundle:
    """The same bundle where it can be written."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("engines"))
    return load_bundle(folder)


def with_network(bundle: Bundle, stream: str, network: onnx.ModelProto) -> Bundle:
    """The bundle, in its place, with another network."""
    data = network.SerializeToString()
    (bundle.path / f"{stream}.onnx").write_bytes(data)
    raw = json.loads((bundle.path / MANIFEST).read_text())
    raw["files"][f"{stream}.onnx"] = sha256(data)
    (bundle.path / MANIFEST).write_text(json.dumps(raw))
    return load_bundle(bundle.path)


def network_of(bundle: Path | Bundle, stream: str) -> onnx.ModelProto:
    folder = bundle.path if isinstance(bundle, Bundle) else bundle
    return onnx.load_from_string((folder / f"{stream}.onnx").read_bytes())


def inputs_of(bundle: Bundle, stream: str) -> NDArray[np.float32]:
    """(3, channels, H, W), of frames that move."""
    manifest = bundle.manifest
    frames = panning_frames(manifest.history + 3)
    preprocessor = Preprocessor(manifest.geometry, manifest.motions)
    section = manifest.streams[stream]
    size_hw, normalisation = manifest.geometry.size_hw, section.normalisation
    steps = [preprocessor.push(frame) for frame in frames]
    ends = range(manifest.history + 1, len(steps) + 1)
    return np.stack(
        [build_input(section.input, size_hw, normalisation, steps[:end]) for end in ends]
    )


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, C) logits to scores."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def break_weight(model: onnx.ModelProto, index: int, how: str) -> str:
    """Give one convolution weights that TensorRT takes and computes in float; its name.

    how: "unquantised", float weights; "wrong axis", one scale an input channel.
    """
    from calibration.placement import quantise_weight  # needs onnxruntime, which a board has not

    convolution = [node for node in model.graph.node if node.op_type == "Conv"][index]
    name = convolution.input[1]
    pair = next(node for node in model.graph.node if node.output[0] == name)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    values, scales = (tensors[n].astype(np.float32) for n in pair.input[:2])
    weights = values * scales.reshape(-1, 1, 1, 1)
    position = list(model.graph.node).index(pair)
    model.graph.node.remove(pair)
    if how == "unquantised":
        model.graph.initializer.append(numpy_helper.from_array(weights, name))
        return convolution.name
    whole, wrong = quantise_weight(weights, 1)
    parts = {"values": whole, "scales": wrong, "zeros": np.zeros(len(wrong), np.int8)}
    for part, array in parts.items():
        model.graph.initializer.append(numpy_helper.from_array(array, f"broken_{part}"))
    names = [f"broken_{part}" for part in parts]
    node = helper.make_node("DequantizeLinear", names, [name], "broken_DQ", axis=1)
    model.graph.node.insert(position, node)
    return convolution.name
