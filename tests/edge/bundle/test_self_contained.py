"""An ONNX file that points to other files is refused before a library reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from calibration.onnx_file import read_model
from edge.bundle.float_onnx import float_onnx
from edge.bundle.network import INPUT, OUTPUT
from edge.bundle.self_contained import MAX_DEPTH, check_self_contained
from edge.devices.cpu import Network
from edge.errors import BundleError, ExportError

OUTSIDE = "lies in another file"


def tensor(external: bool) -> TensorProto:
    made = numpy_helper.from_array(np.ones((1, 4), np.float32), "weight")
    if external:
        made.ClearField("raw_data")
        made.data_location = TensorProto.EXTERNAL
        entry = made.external_data.add()
        entry.key, entry.value = "location", "../../secret.bin"
    return made


def plain() -> onnx.ModelProto:
    """logits = input + bias"""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", [INPUT, "bias"], [OUTPUT])],
        "main",
        [value(INPUT, TensorProto.FLOAT, (1, 4))],
        [value(OUTPUT, TensorProto.FLOAT, (1, 4))],
        [numpy_helper.from_array(np.ones((1, 4), np.float32), "bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def body(external: bool) -> onnx.GraphProto:
    return helper.make_graph([], "body", [], [], [tensor(external)])


def sparse(external: bool) -> onnx.SparseTensorProto:
    made = onnx.SparseTensorProto()
    made.values.CopyFrom(tensor(external))
    made.dims.append(4)
    return made


def with_attribute(name: str, value: object) -> onnx.NodeProto:
    return helper.make_node("Any", [], ["unused"], **{name: value})


def only_entries(model: onnx.ModelProto, external: bool) -> None:
    """As above without the location's kind: some libraries look at the entries alone."""
    made = tensor(external)
    made.ClearField("data_location")
    model.graph.initializer.append(made)


PLACES: dict[str, Callable[[onnx.ModelProto, bool], object]] = {
    "initializer": lambda m, e: m.graph.initializer.append(tensor(e)),
    "entries alone": only_entries,
    "sparse initializer": lambda m, e: m.graph.sparse_initializer.append(sparse(e)),
    "tensor attribute": lambda m, e: m.graph.node.append(with_attribute("value", tensor(e))),
    "tensors attribute": lambda m, e: m.graph.node.append(with_attribute("v", [tensor(e)])),
    "sparse attribute": lambda m, e: m.graph.node.append(with_attribute("v", sparse(e))),
    "sparse list": lambda m, e: m.graph.node.append(with_attribute("v", [sparse(e)])),
    "body of a branch": lambda m, e: m.graph.node.append(with_attribute("then_branch", body(e))),
    "list of graphs": lambda m, e: m.graph.node.append(with_attribute("v", [body(e)])),
    "body in a body": lambda m, e: m.graph.node.append(
        with_attribute("body", helper.make_graph([with_attribute("body", body(e))], "a", [], []))
    ),
    "function": lambda m, e: m.functions.add().node.append(with_attribute("v", tensor(e))),
    "default of a function": lambda m, e: m.functions.add().attribute_proto.append(
        helper.make_attribute("v", tensor(e))
    ),
    "training": lambda m, e: m.training_info.add().initialization.initializer.append(tensor(e)),
    "training step": lambda m, e: m.training_info.add().algorithm.initializer.append(tensor(e)),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_tensor_outside_is_found_wherever_it_may_stand(place: str, tmp_path: Path) -> None:
    inside, outside = plain(), plain()
    PLACES[place](inside, False)
    PLACES[place](outside, True)
    check_self_contained(inside.SerializeToString())
    data = outside.SerializeToString()
    with pytest.raises(BundleError, match=OUTSIDE):
        check_self_contained(data)
    with pytest.raises(BundleError, match=rf"^b: spatial\.onnx: a tensor .* {OUTSIDE}"):
        Network(data, "b: spatial.onnx", (1, 4), 4)
    with pytest.raises(BundleError, match=OUTSIDE):
        float_onnx(data, "fp32")
    file = tmp_path / "model.onnx"
    file.write_bytes(data)
    with pytest.raises(ExportError, match=OUTSIDE):
        read_model(file)


def test_no_tensor_of_the_format_is_forgotten() -> None:
    """Every message of onnx.proto that can reach a tensor is walked through every such field."""
    from edge.bundle.self_contained import _CHILDREN

    names = {
        "Model": "ModelProto",
        "Training": "TrainingInfoProto",
        "Function": "FunctionProto",
        "Graph": "GraphProto",
        "Node": "NodeProto",
        "Attribute": "AttributeProto",
        "Sparse": "SparseTensorProto",
        "Tensor": "TensorProto",
    }
    short = {full: name for name, full in names.items()}
    for name, full in names.items():
        fields = getattr(onnx, full).DESCRIPTOR.fields
        reached = {
            field.number: short[field.message_type.name]
            for field in fields
            if field.message_type is not None and field.message_type.name in short
        }
        assert _CHILDREN[name] == reached


def test_the_networks_of_the_demo_are_whole(demo_bundle: Path) -> None:
    for stream in ("spatial", "temporal"):
        check_self_contained((demo_bundle / f"{stream}.onnx").read_bytes())


def test_a_later_field_does_not_hide_an_earlier_one() -> None:
    """protobuf joins a message that stands twice, and takes the last of two numbers."""
    outside = plain()
    PLACES["initializer"](outside, True)
    with pytest.raises(BundleError, match=OUTSIDE):
        check_self_contained(outside.SerializeToString() + plain().SerializeToString())


def _nested(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        for field in (6, 5, 1):  # a graph in an attribute in a node
            size, length = len(data), b""
            while size > 127:
                length += bytes([size & 127 | 128])
                size >>= 7
            data = bytes([field << 3 | 2]) + length + bytes([size]) + data
    size = len(data)
    return b"\x3a" + _length(size) + data


def _length(size: int) -> bytes:
    out = b""
    while size > 127:
        out += bytes([size & 127 | 128])
        size >>= 7
    return out + bytes([size])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no graph"),
        (b"<?xml version='1.0'?><net/>", "type 4"),
        (b"\x3a\xff\xff\xff\xff\x7f", "cut short"),
        (b"\x3a" + b"\xff" * 9 + b"\x01", "cut short"),
        (b"\x80" * 11, "without end"),
        (b"\x3a\x02\x0a\x7f", "cut short"),
        (_nested(100_000), f"more than {MAX_DEPTH} levels"),
        (b"\x08\x00" * 2_000_001, "more than the 2000000 fields"),
    ],
)
def test_what_is_no_model_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(BundleError, match=says):
        check_self_contained(data)


@given(st.binary(max_size=400))
def test_noise_never_crashes(data: bytes) -> None:
    try:
        check_self_contained(data)
    except BundleError:
        return
    assert b"\x3a" in data
