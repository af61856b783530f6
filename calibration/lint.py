"""Lists faults in the quantisation of a model. Engine builders report few of them: for a misplaced
pair the layer mostly runs in float, without a message.

A fault is what TensorRT refuses, or what makes it run a layer in float; tests hold the verdicts to
those of TensorRT-RTX. A hint costs accuracy or time alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from calibration.placement import WEIGHTED, kept_float, output_axis, weighted_nodes

_PASS_BYTES_ON = ("Concat", "MaxPool")
_ACTIVATIONS = ("Clip", "Relu", "BatchNormalization")


# Operators that work on integers themselves, as onnxruntime's other formats have them
_INTEGER = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")


@dataclass(frozen=True, slots=True)
class Lint:
    """What is wrong with a model's quantisation, one line each. faults: TensorRT refuses the model
    or runs a layer in float. hints: what costs accuracy or time."""

    faults: tuple[str, ...]
    hints: tuple[str, ...]


class _Graph:
    """The producer of each tensor, and the values of constants."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.constants: dict[str, NDArray] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer
        }
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self._producers = {name: node for node in self.nodes for name in node.output}
        self._quantisers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            if node.op_type == "QuantizeLinear":
                self._quantisers.setdefault(node.input[0], []).append(node)

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is a constant, or one that is quantised in the model."""
        node = self.producer(name)
        if node is not None and node.op_type == "QuantizeLinear":
            name = node.input[0]
        return name in self.constants

    def producer_type(self, name: str) -> str:
        """The type of the node that produces a tensor; empty for inputs and constants."""
        return self._producers[name].op_type if name in self._producers else ""

    def producer(self, name: str) -> onnx.NodeProto | None:
        """The node that produces a tensor; None for inputs and constants."""
        return self._producers.get(name)

    def before_pair(self, name: str) -> str | None:
        """The tensor before the Q/DQ pair that produces `name`; None if there is no pair."""
        dequantise = self.producer(name)
        if dequantise is None or dequantise.op_type != "DequantizeLinear":
            return None
        quantise = self.producer(dequantise.input[0])
        if quantise is not None and quantise.op_type == "QuantizeLinear":
            return quantise.input[0]
        return dequantise.input[0]  # a constant that is stored as int8

    def scales(self, name: str) -> set[float]:
        """The scales of the nodes that quantise a tensor, or that dequantise to it."""
        pairs = list(self._quantisers.get(name, []))
        producer = self.producer(name)
        if producer is not None and producer.op_type == "DequantizeLinear":
            pairs.append(producer)
        scales = [self.constants.get(pair.input[1], np.ones(0)) for pair in pairs]
        return {float(scale) for scale in scales if scale.size == 1}


def float_layers(model: onnx.ModelProto) -> list[str]:
    """Convolutions and matrix products that are not wholly quantised, so that TensorRT runs them in
    float: first outputs."""
    graph = _Graph(model)
    return [node.output[0] for node in weighted_nodes(model) if _weighted_faults(node, graph)]


def layer_precisions(model: onnx.ModelProto) -> list[tuple[str, str, str]]:
    """(operator, name, "INT8" or "float") of each convolution and matrix product, in order."""
    floats = set(float_layers(model))
    return [
        (node.op_type, node.name or node.output[0], "float" if node.output[0] in floats else "INT8")
        for node in weighted_nodes(model)
    ]


def lint(model: onnx.ModelProto) -> Lint:
    """Check a model's quantisation for TensorRT. Layers that the export kept in float are none of
    its faults (see `kept_float`)."""
    graph, kept = _Graph(model), kept_float(model)
    faults: list[str] = []
    hints: list[str] = []
    for node in graph.nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            faults += _scale_faults(node, graph)
        elif node.op_type in WEIGHTED and node.output[0] not in kept:
            faults += _weighted_faults(node, graph)
        elif node.op_type in _INTEGER:
            name = node.name or node.output[0]
            faults.append(f"{name}: TensorRT has no {node.op_type}; quantise with Q/DQ nodes")
        elif node.op_type == "Add":
            hints += _add_hints(node, graph)
        elif node.op_type in _PASS_BYTES_ON:
            hints += _passing_hints(node, graph)
        elif node.op_type in _ACTIVATIONS:
            hints += _activation_hints(node, graph)
    if not faults and not weighted_nodes(model):
        faults.append("it has no convolution and no matrix product")
    return Lint(tuple(faults), tuple(hints))


def _scale_faults(node: onnx.NodeProto, graph: _Graph) -> list[str]:
    name = node.name or node.output[0]
    if any(source not in graph.constants for source in node.input[1:]):
        return [f"{name}: scale or zero point is not a constant"]
    faults = []
    scale = graph.constants[node.input[1]]
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        faults.append(f"{name}: a scale is not a positive number")
    # a QuantizeLinear without a zero point makes uint8
    kind = graph.constants[node.input[2]].dtype if len(node.input) > 2 else np.dtype(np.uint8)
    if kind != np.int8:
        faults.append(f"{name}: is {kind}, not int8")
    if len(node.input) > 2 and graph.constants[node.input[2]].any():
        faults.append(f"{name}: a zero point is not 0")
    if not graph.is_constant(node.input[0]) and scale.size != 1:
        faults.append(f"{name}: an activation has {scale.size} scales, not 1")
    return faults


def _weighted_faults(node: onnx.NodeProto, graph: _Graph) -> list[str]:
    name = node.name or node.output[0]
    faults = []
    if graph.before_pair(node.input[0]) is None:
        faults.append(f"{name}: its input is not quantised")
    weight = graph.producer(node.input[1])
    if graph.before_pair(node.input[1]) is None or weight is None:
        faults.append(f"{name}: its weights are not quantised")
    else:
        scales = graph.constants.get(weight.input[1], np.ones(1))
        axis = next((a.i for a in weight.attribute if a.name == "axis"), 1)  # ONNX's default
        if scales.size > 1 and axis != output_axis(node):
            faults.append(
                f"{name}: its weights have scales along axis {axis}, not {output_axis(node)}"
            )
    if len(node.input) > 2 and graph.producer_type(node.input[2]) == "DequantizeLinear":
        faults.append(f"{name}: its bias is quantised")
    return faults


def _add_hints(node: onnx.NodeProto, graph: _Graph) -> list[str]:
    sources = [graph.before_pair(name) for name in node.input]
    paired = [name for name in sources if name is not None]
    if len(paired) == 2 and any(graph.producer_type(name) == "Conv" for name in paired):
        name = node.name or node.output[0]
        return [f"{name}: both inputs are quantised; a convolution's own output should not be"]
    return []


def _passing_hints(node: onnx.NodeProto, graph: _Graph) -> list[str]:
    scales = set().union(*(graph.scales(name) for name in (*node.input, node.output[0])))
    if len(scales) > 1:
        name = node.name or node.output[0]
        return [f"{name}: the tensors on both sides have {len(scales)} scales, not 1"]
    return []


def _activation_hints(node: onnx.NodeProto, graph: _Graph) -> list[str]:
    name = node.name or node.output[0]
    if node.op_type == "BatchNormalization" and graph.producer_type(node.input[0]) == "Conv":
        return [f"{name}: batch norm is not folded into its convolution"]
    source = graph.before_pair(node.input[0])
    if source is not None and graph.producer_type(source) == "Conv":
        return [f"{name}: Q/DQ stands between a convolution and its activation"]
    return []
