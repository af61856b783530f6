"""The network that TensorRT 8 gets is the bundle's, bit by bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge.bundle.manifest import load_bundle
from edge.devices.tensorrt.float_weights import with_float_weights
from edge.devices.tensorrt.layers import convolutions, float_convolutions
from edge.errors import BundleError
from tests.support.engines import STREAMS, inputs_of
from tests.support.rtx import build

WHOLE = np.arange(-128, 128, dtype=np.int8)


def session(data: bytes) -> onnxruntime.InferenceSession:
    """As the file says it: no layer is changed or fused."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def dequantised(
    values: NDArray[np.int8], scales: NDArray[np.float32], zero_point: bool, axis: int | None
) -> onnx.ModelProto:
    """A DequantizeLinear of constant weights."""
    tensors = {"values": values, "scales": scales}
    if zero_point:
        tensors["zeros"] = np.zeros(scales.shape, np.int8)
    attributes = {} if axis is None else {"axis": axis}
    node = helper.make_node("DequantizeLinear", list(tensors), ["weights"], **attributes)
    output = helper.make_tensor_value_info("weights", TensorProto.FLOAT, values.shape)
    initializers = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph([node], "net", [], [output], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS)
def test_a_shipped_stream_gives_the_same_logits(stream: str, demo_bundle: Path) -> None:
    data = (demo_bundle / f"{stream}.onnx").read_bytes()
    batch = inputs_of(load_bundle(demo_bundle), stream)[:1]
    (logits,) = session(with_float_weights(data)).run(None, {"input": batch})
    np.testing.assert_array_equal(logits, session(data).run(None, {"input": batch})[0])


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS)
def test_nvidias_builder_takes_it_and_every_convolution_is_int8(
    stream: str, demo_bundle: Path
) -> None:
    built = build(with_float_weights((demo_bundle / f"{stream}.onnx").read_bytes()))
    assert len(convolutions(built.layers)) == 49
    assert float_convolutions(built.layers) == []


@pytest.mark.slow
@given(
    scale=st.floats(np.float32(1e-40), np.float32(2e36), width=32, allow_subnormal=True),
    zero_point=st.booleans(),
)
def test_every_weight_becomes_the_same_bytes_again(scale: float, zero_point: bool) -> None:
    data = dequantised(WHOLE, np.array(scale, np.float32), zero_point, None).SerializeToString()
    changed = onnx.load_from_string(with_float_weights(data))
    onnx.checker.check_model(changed, full_check=True)
    quantised = changed.graph.node[0].output[0]
    changed.graph.output.append(helper.make_tensor_value_info(quantised, TensorProto.INT8, [256]))
    weights, again = session(changed.SerializeToString()).run(None, {})
    np.testing.assert_array_equal(again, WHOLE)
    np.testing.assert_array_equal(weights, session(data).run(None, {})[0])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_scales_stay_along_their_axis(axis: int) -> None:
    values = np.random.default_rng(1).integers(-127, 128, (5, 5, 3, 3)).astype(np.int8)
    scales = np.geomspace(1e-12, 1e3, values.shape[axis]).astype(np.float32)
    data = dequantised(values, scales, True, axis).SerializeToString()
    (weights,) = session(with_float_weights(data)).run(None, {})
    np.testing.assert_array_equal(weights, session(data).run(None, {})[0])


def test_weights_in_a_constant_node_and_read_twice() -> None:
    model = dequantised(WHOLE, np.array(0.25, np.float32), True, None)
    (values,) = [t for t in model.graph.initializer if t.name == "values"]
    model.graph.initializer.remove(values)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["values"], value=values))
    doubled = np.array(0.5, np.float32)
    model.graph.initializer.append(numpy_helper.from_array(doubled, "others"))
    inputs = ["values", "others", "zeros"]
    model.graph.node.append(helper.make_node("DequantizeLinear", inputs, ["twice"]))
    model.graph.output.append(helper.make_tensor_value_info("twice", TensorProto.FLOAT, [256]))
    changed = onnx.load_from_string(with_float_weights(model.SerializeToString()))
    weights, twice = session(changed.SerializeToString()).run(None, {})
    np.testing.assert_array_equal(weights, WHOLE * np.float32(0.25))
    np.testing.assert_array_equal(twice, WHOLE * np.float32(0.5))
    assert all(node.op_type != "Constant" for node in changed.graph.node)  # int8 weights are gone


def test_a_quantised_bias_is_left_as_it_is() -> None:
    model = dequantised(WHOLE, np.array(0.25, np.float32), False, None)
    (values,) = [t for t in model.graph.initializer if t.name == "values"]
    values.CopyFrom(numpy_helper.from_array(WHOLE.astype(np.int32), "values"))
    changed = onnx.load_from_string(with_float_weights(model.SerializeToString()))
    assert [node.op_type for node in changed.graph.node] == ["DequantizeLinear"]


@pytest.mark.parametrize("scale", [3e38, np.inf, np.nan])
def test_weights_that_float32_cannot_hold_are_named(scale: float) -> None:
    model = dequantised(WHOLE, np.array(scale, np.float32), True, None)
    with pytest.raises(BundleError, match="weights has weights that are no numbers; calibrate"):
        with_float_weights(model.SerializeToString())
