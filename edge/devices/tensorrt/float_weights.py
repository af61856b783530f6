"""The Q/DQ network as TensorRT 8 reads it.

A bundle stores weights as int8 with a DequantizeLinear after them. TensorRT 8 takes no int8
weights; it wants float ones with a QuantizeLinear and a DequantizeLinear, and quantises them itself
when it builds the engine.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from edge.bundle.float_onnx import constants, dequantise, import_onnx, load_model
from edge.errors import BundleError


def with_float_weights(data: bytes) -> bytes:
    """Convert a Q/DQ ONNX file with int8 weights to the same network with float32 weights and a
    QuantizeLinear: quantised again, with the same scales, they are the same bytes.

    Raises BundleError if the network cannot be converted, DeviceError without onnx.
    """
    onnx = import_onnx()
    model = load_model(data)
    graph = model.graph
    values = constants(onnx, model)
    nodes: list[Any] = []
    for node in graph.node:
        is_weight = node.op_type == "DequantizeLinear" and node.input[0] in values
        if is_weight and values[node.input[0]].dtype == np.int8:
            nodes.append(_quantise(onnx, graph, node, values))
        nodes.append(node)
    used = {name for node in nodes for name in node.input} | {out.name for out in graph.output}
    nodes = [n for n in nodes if n.op_type != "Constant" or n.output[0] in used]
    initializers = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initializers)
    return bytes(model.SerializeToString(deterministic=True))


def _quantise(onnx: ModuleType, graph: Any, dequantised: Any, values: dict[str, Any]) -> Any:
    """The QuantizeLinear before a DequantizeLinear of int8 weights, which from now on reads it. The
    float weights are added to the graph's initializers."""
    name = dequantised.output[0]
    with np.errstate(over="ignore", invalid="ignore"):
        weights = dequantise(dequantised, values)
    if not np.isfinite(weights).all():
        raise BundleError(f"{name} has weights that are no numbers; calibrate and export it again")
    if len(dequantised.input) < 3:  # without a zero point a QuantizeLinear makes uint8
        zeros = np.zeros(values[dequantised.input[1]].shape, np.int8)
        graph.initializer.append(onnx.numpy_helper.from_array(zeros, f"{name}_zero_point"))
        dequantised.input[2:] = [f"{name}_zero_point"]
    graph.initializer.append(onnx.numpy_helper.from_array(weights, f"{name}_float"))
    inputs, output = [f"{name}_float", *dequantised.input[1:]], f"{name}_quantised"
    node = onnx.helper.make_node("QuantizeLinear", inputs, [output], f"{name}_Q")
    node.attribute.extend(dequantised.attribute)
    dequantised.input[0] = output
    return node
