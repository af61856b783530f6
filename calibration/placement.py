"""Places Q/DQ nodes.

The rules are those of TensorRT for explicit quantisation ("Working with Quantized Types",
recommended placement); OpenVINO and onnxruntime read the result, too:

- quantised are the input of each Conv, ConvTranspose, Gemm and MatMul with constant weights, and of
  average pooling, with one scale per tensor; and the weights, stored as int8, with one scale per
  output channel. All is symmetric, with zero point 0;
- nothing between a convolution and its activation, and no quantised bias;
- tensors on both sides of a concatenation or a maximum pooling have one scale;
- of the two inputs of a residual Add, the output of a convolution stays float, so that convolution,
  sum and activation become one kernel; the skip connection is quantised.

Nodes are identified by their first output, since node names are optional in ONNX.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from calibration.ranges import LEVELS
from edge.errors import ExportError

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
POOLING = ("AveragePool", "GlobalAveragePool")
FLOAT_LAYERS = "float_layers"  # in the metadata of an ONNX file: a JSON list, see `kept_float`


def quantised_inputs(
    model: onnx.ModelProto, keep_float: Collection[str] = ()
) -> list[tuple[int, int]]:
    """(index of the node, index of its input) of each activation that gets Q/DQ.

    keep_float: nodes that get none, by first output.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    convolved = {node.output[0] for node in model.graph.node if node.op_type == "Conv"}
    places: list[tuple[int, int]] = []
    for position, node in enumerate(model.graph.node):
        if node.output[0] in keep_float:
            continue
        if (node.op_type in WEIGHTED and node.input[1] in constants) or node.op_type in POOLING:
            places.append((position, 0))
        elif node.op_type == "Add" and not constants & set(node.input):
            branches = [index for index, name in enumerate(node.input) if name in convolved]
            main = branches[0] if branches else None
            places += [(position, index) for index in range(2) if index != main]
    return places


def weighted_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Convolutions and matrix products, in the order in which they run."""
    return [node for node in model.graph.node if node.op_type in WEIGHTED]


def kept_float(model: onnx.ModelProto) -> tuple[str, ...]:
    """The layers that `place` was told to keep in float, by first output; of a model that others
    made, none."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    try:
        return tuple(map(str, json.loads(metadata.get(FLOAT_LAYERS, "[]"))))
    except (ValueError, TypeError):
        return ()


def activations(model: onnx.ModelProto) -> list[str]:
    """The tensors whose ranges `place` needs."""
    nodes = model.graph.node
    return list(dict.fromkeys(nodes[n].input[i] for n, i in quantised_inputs(model)))


def shared_scales(model: onnx.ModelProto) -> list[set[str]]:
    """Groups of tensors that must have the same scale: the inputs and outputs of concatenations and
    maximum poolings, which then work on bytes and need no float.
    """
    groups: list[set[str]] = []
    for node in model.graph.node:
        if node.op_type == "Concat":
            joined = {*node.input, node.output[0]}
        elif node.op_type == "MaxPool":
            joined = {node.input[0], node.output[0]}
        else:
            continue
        touching = [group for group in groups if group & joined]
        groups = [group for group in groups if not group & joined]
        groups.append(joined.union(*touching))
    return groups


def join_ranges(model: onnx.ModelProto, ranges: Mapping[str, float]) -> dict[str, float]:
    """The ranges, by tensor, with the largest range of each group of `shared_scales` for all of its
    tensors.
    """
    joined = dict(ranges)
    for group in shared_scales(model):
        members = [name for name in group if name in ranges]
        joined |= dict.fromkeys(members, max((ranges[name] for name in members), default=0.0))
    return joined


def place(
    model: onnx.ModelProto, ranges: Mapping[str, float], keep_float: Collection[str] = ()
) -> onnx.ModelProto:
    """The model with Q/DQ nodes and int8 weights.

    ranges: the |value| that maps to 127, for each tensor of `activations`. keep_float: nodes that
    stay float, by first output; they are noted in the model's metadata. Raises ExportError if a
    weight is not finite.
    """
    placed = onnx.ModelProto()
    placed.CopyFrom(model)
    graph = placed.graph
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    places = quantised_inputs(model, keep_float)
    quantised: dict[str, list[onnx.NodeProto]] = {}
    weights: dict[str, onnx.NodeProto] = {}
    added = [numpy_helper.from_array(np.array(0, np.int8), "zero_point")]
    nodes: list[onnx.NodeProto] = []
    for position, node in enumerate(graph.node):
        for index in (i for n, i in places if n == position):
            name = node.input[index]
            if name not in quantised:
                scale = np.array(ranges[name] / LEVELS, np.float32)
                added.append(numpy_helper.from_array(scale, f"{name}_scale"))
                quantised[name] = _pair(name)
                nodes += quantised[name]
            node.input[index] = quantised[name][1].output[0]
        weighted = node.op_type in WEIGHTED and node.input[1] in constants
        if weighted and node.output[0] not in keep_float:
            name = node.input[1]
            if name not in weights:
                axis = output_axis(node)
                weights[name], tensors = _int8_weight(constants[name], axis)
                added += tensors
                nodes.append(weights[name])
            node.input[1] = weights[name].output[0]
        nodes.append(node)
    float_tensors = [tensor for tensor in graph.initializer if tensor.name not in weights]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(float_tensors + added)
    if keep_float:
        entry = placed.metadata_props.add()
        entry.key, entry.value = FLOAT_LAYERS, json.dumps(sorted(keep_float))
    return placed


def output_axis(node: onnx.NodeProto) -> int:
    """The axis of a node's weights along which its output channels are; a ConvTranspose must not
    have groups."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if transposed else 1


def _pair(name: str) -> list[onnx.NodeProto]:
    scale = [f"{name}_scale", "zero_point"]
    return [
        helper.make_node("QuantizeLinear", [name, *scale], [f"{name}_q"], f"{name}_Q"),
        helper.make_node("DequantizeLinear", [f"{name}_q", *scale], [f"{name}_dq"], f"{name}_DQ"),
    ]


def quantise_weight(
    values: NDArray[np.float32], axis: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights as int8 of the same shape, and one scale per channel of `axis`, (O,)."""
    other_axes = tuple(i for i in range(values.ndim) if i != axis)
    largest = np.abs(values).max(axis=other_axes)
    # any scale will do for a channel of zeros
    scales = np.where(largest > 0, largest / LEVELS, 1).astype(np.float32)
    levels = np.rint(values / np.expand_dims(scales, other_axes))
    return np.clip(levels, -LEVELS, LEVELS).astype(np.int8), scales


def _int8_weight(
    tensor: onnx.TensorProto, axis: int
) -> tuple[onnx.NodeProto, list[onnx.TensorProto]]:
    """The DequantizeLinear of a weight, and its int8 values, scales and zero points."""
    name = tensor.name
    values = numpy_helper.to_array(tensor)
    if not np.isfinite(values).all():
        raise ExportError(f"weight {name} is not finite; the checkpoint is damaged")
    int8_values, scales = quantise_weight(values, axis)
    inputs = [f"{name}_int8", f"{name}_scale", f"{name}_zero_point"]
    node = helper.make_node("DequantizeLinear", inputs, [f"{name}_dq"], f"{name}_DQ", axis=axis)
    return node, [
        numpy_helper.from_array(int8_values, inputs[0]),
        numpy_helper.from_array(scales, inputs[1]),
        numpy_helper.from_array(np.zeros(len(scales), np.int8), inputs[2]),
    ]
