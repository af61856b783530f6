"""Where Q/DQ stands in a model, and models broken on purpose that the lint finds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from calibration.lint import Lint, float_layers, layer_precisions, lint
from calibration.placement import activations, join_ranges, place
from tests.support.networks import residual_network

Model = onnx.ModelProto


@pytest.fixture
def small() -> Model:
    model = residual_network()
    return place(model, dict.fromkeys(activations(model), 5.0))


def node(model: Model, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def set_constant(model: Model, name: str, value: np.ndarray) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(value, name))


def break_pair(model: Model, tensor: str, user: str, index: int) -> None:
    node(model, user).input[index] = tensor


def quantise_main_branch(model: Model) -> None:
    pair = place(residual_network(), dict.fromkeys(activations(residual_network()), 5.0))
    for kind in ("Q", "DQ"):
        copied = node(pair, f"r0_{kind}")
        copied.name = f"main_{kind}"
        copied.input[0] = {"Q": "c1", "DQ": "c1_q"}[kind]
        copied.output[0] = {"Q": "c1_q", "DQ": "c1_dq"}[kind]
        model.graph.node.append(copied)
    node(model, "add").input[0] = "c1_dq"


def quantise_before_clip(model: Model) -> None:
    quantise_main_branch(model)
    node(model, "main_Q").input[0] = "c0"
    node(model, "add").input[0] = "c1"
    node(model, "clip0").input[0] = "c1_dq"


def quantise_bias(model: Model) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.int8), "b0_int8"))
    model.graph.node.append(
        helper.make_node("DequantizeLinear", ["b0_int8", "r0_scale", "zero_point"], ["b0_dq"])
    )
    node(model, "conv0").input[2] = "b0_dq"


def wrong_axis(model: Model) -> None:
    node(model, "w1_DQ").attribute[0].i = 1


BROKEN: dict[str, Callable[[Model], None]] = {
    "r0_Q: a zero point is not 0": lambda m: set_constant(m, "zero_point", np.array(3, np.int8)),
    "r0_Q: is uint8, not int8": lambda m: set_constant(m, "zero_point", np.array(0, np.uint8)),
    "r0_Q: an activation has 4 scales, not 1": lambda m: set_constant(
        m, "r0_scale", np.ones(4, np.float32)
    ),
    "r0_Q: a scale is not a positive number": lambda m: set_constant(
        m, "r0_scale", np.array(0, np.float32)
    ),
    "w2_DQ: a scale is not a positive number": lambda m: set_constant(
        m, "w2_scale", np.array([1, 1, np.nan, 1], np.float32)
    ),
    "conv1: its weights have scales along axis 1, not 0": wrong_axis,
    "conv1: its input is not quantised": lambda m: break_pair(m, "r0", "conv1", 0),
    "conv1: its weights are not quantised": lambda m: break_pair(m, "w1", "conv1", 1),
    "conv0: its bias is quantised": quantise_bias,
    (
        "add: both inputs are quantised; a convolution's own output should not be"
    ): quantise_main_branch,
    "clip0: Q/DQ stands between a convolution and its activation": quantise_before_clip,
}


def test_a_placed_model_has_no_faults(small: Model) -> None:
    assert lint(small) == Lint((), ())
    assert float_layers(small) == []
    makers = {name: n.op_type for n in small.graph.node for name in n.output}
    assert [makers[name] for name in node(small, "add").input] == ["Conv", "DequantizeLinear"]


@pytest.mark.parametrize("fault", BROKEN)
def test_lint_names_each_fault(small: Model, fault: str) -> None:
    BROKEN[fault](small)
    found = lint(small)
    assert fault in (*found.faults, *found.hints)


def test_a_layer_kept_float_is_left_alone() -> None:
    model = residual_network()
    ranges = dict.fromkeys(activations(model), 5.0)
    placed = place(model, ranges, ["c1"])
    assert list(node(placed, "conv1").input) == ["r0", "w1"]
    assert float_layers(placed) == ["c1"]
    assert lint(placed) == Lint((), ())
    del placed.metadata_props[:]
    assert len(lint(placed).faults) == 2


def concatenated() -> Model:
    """Two convolutions joined, one of them read by a third as well; then a pooling."""
    rng = np.random.default_rng(4)
    weights = {
        "w0": rng.standard_normal((4, 4, 1, 1)).astype(np.float32),
        "w1": rng.standard_normal((4, 4, 1, 1)).astype(np.float32),
        "w2": rng.standard_normal((3, 8, 1, 1)).astype(np.float32),
        "w3": rng.standard_normal((3, 4, 1, 1)).astype(np.float32),
    }
    pooling = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["input", "w0"], ["c0"], "conv0"),
        helper.make_node("Conv", ["input", "w1"], ["c1"], "conv1"),
        helper.make_node("Concat", ["c0", "c1"], ["both"], "concat", axis=1),
        helper.make_node("MaxPool", ["both"], ["small"], "pool", **pooling),
        helper.make_node("Conv", ["small", "w2"], ["c2"], "conv2"),
        helper.make_node("Conv", ["c0", "w3"], ["c3"], "conv3"),
    ]
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "concatenated",
        [helper.make_tensor_value_info("input", floats, [1, 4, 8, 8])],
        [helper.make_tensor_value_info(name, floats, None) for name in ("c2", "c3")],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_the_inputs_of_a_concatenation_have_one_scale() -> None:
    model = concatenated()
    ranges = {"input": 1.0, "small": 2.0, "c0": 5.0}
    assert set(activations(model)) == set(ranges)
    joined = join_ranges(model, ranges)
    assert joined == {"input": 1.0, "small": 5.0, "c0": 5.0}
    assert lint(place(model, joined)) == Lint((), ())
    assert lint(place(model, {"input": 1.0, "small": 2.0, "c0": 2.0})) == Lint((), ())


def test_lint_finds_scales_that_differ_across_a_concatenation_or_pooling() -> None:
    model = place(concatenated(), {"input": 1.0, "small": 5.0, "c0": 5.0})
    pair = [node(model, f"small_{kind}") for kind in ("Q", "DQ")]
    for original in pair:  # a second pair, with another scale, in front of the pooling
        copied = model.graph.node.add()
        copied.CopyFrom(original)
        copied.name = original.name.replace("small", "both")
        copied.input[0] = copied.input[0].replace("small", "both")
        copied.output[0] = copied.output[0].replace("small", "both")
        copied.input[1] = "both_scale"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "both_scale"))
    node(model, "pool").input[0] = "both_dq"
    hints = lint(model).hints
    assert "pool: the tensors on both sides have 2 scales, not 1" in hints
    assert "concat: the tensors on both sides have 2 scales, not 1" in hints


def test_the_precision_of_each_layer_is_listed() -> None:
    model = residual_network()
    placed = place(model, dict.fromkeys(activations(model), 5.0), ["c1"])
    assert layer_precisions(placed) == [
        ("Conv", "conv0", "INT8"),
        ("Conv", "conv1", "float"),
        ("Conv", "conv2", "INT8"),
        ("Gemm", "gemm", "INT8"),
    ]
