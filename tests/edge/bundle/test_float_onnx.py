"""The bundle's networks without Q/DQ, and the scales that a DLA gets instead."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from calibration.placement import place
from edge.bundle.float_onnx import activation_scales, float_onnx
from edge.bundle.manifest import Bundle, load_bundle
from edge.devices.inference import NetworkFile
from edge.devices.openvino import compile_network
from edge.devices.tensorrt.builder import BuildConfig, build_engine
from edge.devices.tensorrt.dla import calibration_cache, tensor_scales
from edge.errors import BundleError, DeviceError
from tests.support.engines import STREAMS, inputs_of, network_of, softmax
from tests.support.int8 import right_int8
from tests.support.tensorrt_surface import Surface

# Four parity samples, the largest difference of a score.
INT8_TOLERANCE = 0.09  # measured: 0.074 on an Intel with AMX
DLA_TOLERANCE = 0.1  # measured: 0.076
FP16_TOLERANCE = 0.01


@pytest.fixture(scope="module")
def bundle(demo_bundle: Path) -> Bundle:
    return load_bundle(demo_bundle)


def run(data: bytes, batches: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, ...) to (N, C), node by node as written: onnxruntime's own optimisations of Q/DQ move
    scores by several tenths."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"input": batch[None]})[0] for batch in batches])


def op_types(data: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(data).graph.node}


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS)
def test_variants_score_as_the_int8_network(stream: str, bundle: Bundle) -> None:
    data, inputs = bundle.read(f"{stream}.onnx"), inputs_of(bundle, stream)
    classes = len(bundle.manifest.classes)
    file = NetworkFile(data, stream, (1, *inputs.shape[1:]), classes)
    network = compile_network(file, right_int8())
    int8 = softmax(np.concatenate([network.infer(batch[None]) for batch in inputs]))
    fp32 = softmax(run(float_onnx(data, "fp32"), inputs))
    fp16 = softmax(run(float_onnx(data, "fp16"), inputs))
    assert 0 < np.abs(int8 - fp32).max() < INT8_TOLERANCE
    assert 0 < np.abs(fp16 - fp32).max() < FP16_TOLERANCE


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_a_variant_is_float_between_float32_ends(precision: Any, bundle: Bundle) -> None:
    data = float_onnx(bundle.read("spatial.onnx"), precision)
    model = onnx.load_from_string(data)
    assert not op_types(data) & {"QuantizeLinear", "DequantizeLinear"}
    kind = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.FLOAT
    assert {t.data_type for t in model.graph.initializer} == {kind}
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    assert data == float_onnx(bundle.read("spatial.onnx"), precision)  # the same every time


def small_network(seed: int, transposed: bool) -> onnx.ModelProto:
    """input -> Conv -> Relu -> pool -> Flatten -> Gemm -> logits, in float."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    matrix = rng.normal(size=(5, 4) if transposed else (4, 5)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "w", "b"], ["conv"], "conv"),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("Gemm", ["flat", "m"], ["logits"], "gemm", transB=int(transposed)),
    ]
    arrays = {"w": weights, "b": rng.normal(size=4).astype(np.float32), "m": matrix}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def tensors(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def quantised(seed: int = 0, transposed: bool = True) -> onnx.ModelProto:
    ranges = {"input": 3.0, "relu": 12.0, "flat": 6.0}
    return place(small_network(seed, transposed), ranges)


@given(st.integers(0, 1000), st.booleans())
def test_weights_are_what_the_int8_stands_for(seed: int, transposed: bool) -> None:
    before = {
        t.name: numpy_helper.to_array(t) for t in small_network(seed, transposed).graph.initializer
    }
    variant = onnx.load_from_string(
        float_onnx(quantised(seed, transposed).SerializeToString(), "fp32")
    )
    after = {t.name: numpy_helper.to_array(t) for t in variant.graph.initializer}
    assert set(after) == {"w_dq", "b", "m_dq"}
    for name in ("w", "m"):
        step = np.abs(before[name]).max() / 127
        assert np.abs(after[f"{name}_dq"] - before[name]).max() <= step / 2 * 1.001
    np.testing.assert_array_equal(after["b"], before["b"])


@pytest.mark.slow
@given(st.integers(0, 1000), st.sampled_from(["fp16", "fp32"]))
def test_a_small_variant_runs_and_is_close(seed: int, precision: Any) -> None:
    batch = np.random.default_rng(seed).normal(size=(1, 3, 8, 8)).astype(np.float32)
    expected = run(small_network(seed, True).SerializeToString(), batch)
    found = run(float_onnx(quantised(seed).SerializeToString(), precision), batch)
    assert np.abs(found - expected).max() < 0.15


def test_a_quantised_output_stays_the_output() -> None:
    model = quantised()
    model.graph.node[-1].output[0] = "raw"
    model.graph.node.extend(
        [
            helper.make_node("QuantizeLinear", ["raw", "input_scale", "zero_point"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "input_scale", "zero_point"], ["logits"]),
        ]
    )
    for precision in ("fp16", "fp32"):
        data = float_onnx(model.SerializeToString(), precision)  # type: ignore[arg-type]
        assert run(data, np.zeros((1, 3, 8, 8), np.float32)).shape == (1, 5)


def test_weights_with_zero_points_and_one_scale() -> None:
    model = quantised()
    pair = next(node for node in model.graph.node if node.output[0] == "w_dq")
    del pair.attribute[:]
    pair.input[1:] = ["one_scale", "seven"]
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(0.5, np.float32), "one_scale"),
            numpy_helper.from_array(np.array(7, np.int8), "seven"),
        ]
    )
    whole = tensors(model)["w_int8"].astype(np.float32)
    variant = onnx.load_from_string(float_onnx(model.SerializeToString(), "fp32"))
    np.testing.assert_array_equal(tensors(variant)["w_dq"], (whole - 7) * 0.5)


def test_what_has_no_variant_is_refused_by_name() -> None:
    orphan = quantised()
    next(n for n in orphan.graph.node if n.output[0] == "w_dq").input[0] = "input"
    with pytest.raises(BundleError, match="w_DQ has an input that is not quantised"):
        float_onnx(orphan.SerializeToString(), "fp32")
    misfit = quantised()
    next(n for n in misfit.graph.node if n.output[0] == "w_dq").attribute[0].i = 1
    with pytest.raises(BundleError, match="w_DQ has 4 scales for 3 channels"):
        float_onnx(misfit.SerializeToString(), "fp32")
    huge = quantised()
    bias = next(t for t in huge.graph.initializer if t.name == "b")
    bias.CopyFrom(numpy_helper.from_array(np.array([0, 0, 0, 1e6], np.float32), "b"))
    float_onnx(huge.SerializeToString(), "fp32")
    with pytest.raises(BundleError, match="b has values that FP16 cannot hold"):
        float_onnx(huge.SerializeToString(), "fp16")
    cast = quantised()
    cast.graph.node.insert(0, helper.make_node("Cast", ["input"], ["i"], to=TensorProto.FLOAT))
    next(n for n in cast.graph.node if n.op_type == "QuantizeLinear").input[0] = "i"
    with pytest.raises(BundleError, match="has no fp16 variant"):
        float_onnx(cast.SerializeToString(), "fp16")
    moving = quantised()
    for node in moving.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.input[1] = "conv"
    for refused in (tensor_scales, lambda data: float_onnx(data, "fp32")):
        with pytest.raises(BundleError, match="conv is not a constant"):
            refused(moving.SerializeToString())
    with pytest.raises(BundleError, match="not readable ONNX"):
        float_onnx(b"\xff\xff garbage", "fp32")


def test_without_onnx_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    data = quantised().SerializeToString()
    monkeypatch.setitem(sys.modules, "onnx", None)
    for precision in ("fp16", "fp32"):
        with pytest.raises(DeviceError, match="pip install onnx"):
            float_onnx(data, precision)  # type: ignore[arg-type]


def test_int8_on_the_gpu_needs_no_onnx(demo_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    data = (demo_bundle / "spatial.onnx").read_bytes()
    build_engine(Surface("10.3.0"), data, "net", BuildConfig("int8", None, None), b"")


@pytest.mark.slow
def test_every_tensor_of_a_shipped_network_but_the_logits_has_a_scale(
    demo_bundle: Path,
) -> None:
    for stream in STREAMS:
        network = network_of(demo_bundle, stream)
        data = network.SerializeToString()
        graph = onnx.load_from_string(float_onnx(data, "fp32")).graph
        tensors = [n.output[0] for n in graph.node if n.op_type != "Constant"]
        scales = tensor_scales(data)
        assert list(scales) == ["input", *tensors[:-1]]
        assert tensors[-1] == "logits"
        measured = activation_scales(network)
        assert {name: scales[name] for name in measured} == measured


def test_inherited_scales_follow_the_rule(demo_bundle: Path) -> None:
    data = network_of(demo_bundle, "temporal").SerializeToString()
    scales = tensor_scales(data)
    measured = activation_scales(onnx.load_from_string(data))
    nodes = onnx.load_from_string(float_onnx(data, "fp32")).graph.node
    assert {"Clip", "Add"} <= {node.op_type for node in nodes}
    for node in nodes:
        if node.op_type == "Clip":
            assert scales[node.input[0]] == scales[node.output[0]]
        if node.op_type == "Add":
            (main,) = [name for name in node.input if name not in measured]
            (skip,) = [name for name in node.input if name in measured]
            assert scales[main] == max(scales[skip], scales[node.output[0]])


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS)
def test_the_scales_keep_the_scores(stream: str, bundle: Bundle) -> None:
    """The float network with every tensor of the table rounded to it, which is what implicit
    quantisation does at worst."""
    data, inputs = bundle.read(f"{stream}.onnx"), inputs_of(bundle, stream)
    plain = float_onnx(data, "fp32")
    rounded = round_tensors(onnx.load_from_string(plain), tensor_scales(data))
    difference = softmax(run(rounded, inputs)) - softmax(run(plain, inputs))
    assert np.abs(difference).max() < DLA_TOLERANCE


def round_tensors(model: onnx.ModelProto, scales: dict[str, float]) -> bytes:
    """The network with a Q/DQ pair behind every tensor that has a scale."""
    nodes = list(model.graph.node)
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), "zero"))
    placed: list[onnx.NodeProto] = []

    def round_one(name: str) -> None:
        if name in scales:
            scale = numpy_helper.from_array(np.array(scales[name], np.float32), f"{name}_scale")
            model.graph.initializer.append(scale)
            ends = [f"{name}_scale", "zero"]
            placed.append(helper.make_node("QuantizeLinear", [name, *ends], [f"{name}_q"]))
            placed.append(
                helper.make_node("DequantizeLinear", [f"{name}_q", *ends], [f"{name}_dq"])
            )

    round_one("input")
    for node in nodes:
        node.input[:] = [f"{name}_dq" if name in scales else name for name in node.input]
        placed.append(node)
        round_one(node.output[0])
    del model.graph.node[:]
    model.graph.node.extend(placed)
    return model.SerializeToString()


def test_the_table_is_written_as_tensorrt_reads_it() -> None:
    lines = (
        calibration_cache(Surface("10.3.0"), quantised().SerializeToString()).decode().split("\n")
    )
    assert lines[0] == "TRT-100300-EntropyCalibration2"
    assert lines[-1] == ""
    found = dict(line.rsplit(": ", 1) for line in lines[1:-1])
    assert list(found) == ["input", "conv", "relu", "pool", "flat"]
    assert found["input"] == struct.pack(">f", np.float32(3.0 / 127)).hex()
    assert found["conv"] == found["relu"] == found["pool"]
    assert all(len(digits) == 8 for digits in found.values())
