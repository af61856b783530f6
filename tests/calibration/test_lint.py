"""Verdicts of the lint, held to those of NVIDIA's builder (TensorRT-RTX), which needs no GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from calibration.lint import layer_precisions, lint
from calibration.placement import activations, place
from edge.devices.tensorrt.layers import convolutions
from edge.errors import BundleError
from tests.support.rtx import build

Model = onnx.ModelProto
CHANNELS, SIZE = 32, 16  # enough for INT8 kernels
LAYERS = 4  # of `network`, with weights
MODELOPT = Path(__file__).with_name("modelopt")

pytestmark = pytest.mark.slow


def network() -> Model:
    """Conv -> Clip -> Conv, + skip -> Conv -> pool -> Gemm, in float."""
    rng = np.random.default_rng(1)
    weights = {
        f"w{i}": (rng.standard_normal((CHANNELS, CHANNELS, 3, 3)) * 0.05).astype(np.float32)
        for i in range(3)
    } | {
        "b0": np.ones(CHANNELS, np.float32),
        "wg": rng.standard_normal((8, CHANNELS)).astype(np.float32),
        "low": np.array(0, np.float32),
        "high": np.array(6, np.float32),
    }
    padded = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    nodes = [
        helper.make_node("Conv", ["input", "w0", "b0"], ["c0"], "conv0", **padded),
        helper.make_node("Clip", ["c0", "low", "high"], ["r0"], "clip0"),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], "conv1", **padded),
        helper.make_node("Add", ["c1", "r0"], ["sum"], "add"),
        helper.make_node("Conv", ["sum", "w2"], ["c2"], "conv2", **padded),
        helper.make_node("GlobalAveragePool", ["c2"], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "wg"], ["logits"], "gemm", transB=1),
    ]
    return _model(nodes, (1, 8), weights)


def _model(
    nodes: list[onnx.NodeProto], shape: tuple[int, ...], weights: dict[str, NDArray[np.float32]]
) -> Model:
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("input", floats, [1, CHANNELS, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", floats, shape)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def ours(*keep_float: str) -> Model:
    model = network()
    return place(model, dict.fromkeys(activations(model), 5.0), keep_float)


def constants_as_nodes() -> Model:
    """Scales and zero points in Constant nodes, as PyTorch exports them."""
    model = ours()
    tensors = list(model.graph.initializer)
    moved = [each for each in tensors if each.name.endswith(("_scale", "zero_point"))]
    nodes = [helper.make_node("Constant", [], [each.name], value=each) for each in moved]
    _replace(model, [*nodes, *model.graph.node])
    del model.graph.initializer[:]
    model.graph.initializer.extend(each for each in tensors if each not in moved)
    return model


def float_weights() -> Model:
    """Weights as float tensors before a pair of their own, as NVIDIA's quantiser leaves them."""
    model = ours()
    values = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in values:
            name, axis = node.input[0], node.attribute[0].i
            scales = values[node.input[1]]
            shape = [-1 if i == axis else 1 for i in range(values[name].ndim)]
            weight = (values[name] * scales.reshape(shape)).astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(weight, f"{name}_float"))
            inputs = [f"{name}_float", *node.input[1:]]
            nodes.append(helper.make_node("QuantizeLinear", inputs, [f"{name}_q"], axis=axis))
            node.input[0] = f"{name}_q"
        nodes.append(node)
    _replace(model, nodes)
    return model


def _replace(model: Model, nodes: list[onnx.NodeProto]) -> None:
    copied = [onnx.NodeProto.FromString(each.SerializeToString()) for each in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copied)


def unquantised(index: int) -> Model:
    """One convolution with a float input (0) or float weights (1)."""
    model = ours()
    convolution = next(node for node in model.graph.node if node.name == "conv1")
    if index:
        model.graph.initializer.append(
            next(each for each in network().graph.initializer if each.name == "w1")
        )
    convolution.input[index] = ("r0", "w1")[index]
    return model


def wrong_axis() -> Model:
    model = ours()
    next(node for node in model.graph.node if node.name == "w1_DQ").attribute[0].i = 1
    return model


def with_constant(name: str, value: NDArray[Any]) -> Model:
    model = ours()
    tensor = next(each for each in model.graph.initializer if each.name == name)
    tensor.CopyFrom(numpy_helper.from_array(value, name))
    return model


def without_layers() -> Model:
    relu = helper.make_node("Relu", ["input"], ["logits"], "relu")
    return _model([relu], (1, CHANNELS, SIZE, SIZE), {})


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        rng = np.random.default_rng(2)
        shape = (1, CHANNELS, SIZE, SIZE)
        self._rows: Iterator[NDArray[np.float32]] = iter(
            rng.standard_normal((4, *shape)).astype(np.float32)
        )

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        row = next(self._rows, None)
        return None if row is None else {"input": row}


def by_onnxruntime(folder: Path, **settings: Any) -> Model:
    plain, out = folder / "plain.onnx", folder / "out.onnx"
    onnx.save(network(), plain)
    quantize_static(plain, out, _Reader(), **settings)
    return onnx.load(out)


def dynamic(folder: Path) -> Model:
    """MatMulInteger, ConvInteger: scales that are found at run time."""
    plain, out = folder / "plain.onnx", folder / "out.onnx"
    onnx.save(network(), plain)
    quantize_dynamic(plain, out)
    return onnx.load(out)


def by_modelopt(file: str) -> Model:
    """What NVIDIA's quantiser (modelopt 0.47, calibrated on four random inputs) made of `network`,
    without the weights: they are put back."""
    model, plain = onnx.load(MODELOPT / file), network()
    weights = {each.name: numpy_helper.to_array(each) for each in plain.graph.initializer}
    for each in model.graph.initializer:
        if each.name.startswith("w") and each.name in weights:
            kind = helper.tensor_dtype_to_np_dtype(each.data_type)
            each.raw_data = weights[each.name].astype(kind).tobytes()
    return model


INT8 = {"activation_type": QuantType.QInt8, "per_channel": True}
SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True}
FILES: dict[str, Callable[[Path], Model]] = {
    "ours": lambda _: ours(),
    "ours, a layer kept in float": lambda _: ours("c1"),
    "scales in Constant nodes": lambda _: constants_as_nodes(),
    "float weights": lambda _: float_weights(),
    "not quantised": lambda _: network(),
    "no layer": lambda _: without_layers(),
    "float weights of one layer": lambda _: unquantised(1),
    "float input of one layer": lambda _: unquantised(0),
    "scales along another axis": lambda _: wrong_axis(),
    "a zero point": lambda _: with_constant("zero_point", np.array(3, np.int8)),
    "a scale of 0": lambda _: with_constant("r0_scale", np.array(0, np.float32)),
    "onnxruntime's defaults": by_onnxruntime,
    "onnxruntime, for TensorRT": lambda folder: by_onnxruntime(
        folder, **INT8, extra_options=SYMMETRIC | {"QuantizeBias": False}
    ),
    "onnxruntime, quantised bias": lambda folder: by_onnxruntime(
        folder, **INT8, extra_options=SYMMETRIC
    ),
    "onnxruntime, integer operators": lambda folder: by_onnxruntime(
        folder, **INT8, quant_format=QuantFormat.QOperator
    ),
    "onnxruntime, dynamic": dynamic,
    "modelopt": lambda _: by_modelopt("fp32.onnx"),
    "modelopt, the rest in FP16": lambda _: by_modelopt("fp16.onnx"),
}


@pytest.mark.parametrize("name", FILES)
def test_the_lint_says_what_the_builder_does(name: str, tmp_path: Path) -> None:
    model = FILES[name](tmp_path)
    faults = lint(model).faults
    try:
        layers = build(model.SerializeToString()).layers
    except BundleError:
        assert faults
        return
    weighted = [*convolutions(layers), *(each for each in layers if each.kind == "gemm")]
    run = [each for each in weighted if each.precision == "int8"]
    said = [name for _, name, precision in layer_precisions(model) if precision == "INT8"]
    assert len(said) == len(run)
    kept = 1 if "kept in float" in name else 0
    assert (not faults) == (len(run) == LAYERS - kept), faults


def test_uint8_is_a_fault_although_the_builder_takes_it() -> None:
    """It computes in int8, where levels above 127 have no place, and says nothing."""
    model = with_constant("zero_point", np.array(0, np.uint8))
    layers = build(model.SerializeToString()).layers
    assert {layer.precision for layer in convolutions(layers)} == {"int8"}
    assert "r0_Q: is uint8, not int8" in lint(model).faults


def test_what_costs_time_alone_is_a_hint(tmp_path: Path) -> None:
    model = by_onnxruntime(tmp_path, **INT8, extra_options=SYMMETRIC | {"QuantizeBias": False})
    found = lint(model)
    assert found.faults == ()
    assert found.hints == (
        "clip0: Q/DQ stands between a convolution and its activation",
        "add: both inputs are quantised; a convolution's own output should not be",
    )
