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
from edge.bundle.self_contained import check_self_contained
from edge.bundle.tensor_names import INPUT, OUTPUT
from edge.devices.inference import NetworkFile
from edge.devices.openvino import compile_network
from edge.errors import BundleError, ExportError

OUTSIDE = "is in another file"


def tensor(external: bool) -> TensorProto:
    made = numpy_helper.from_array(np.ones((1, 4), np.float32), "weight")
    if external:
        made.ClearField("raw_data")
        made.data_location = TensorProto.EXTERNAL
        entry = made.external_data.add()
        entry.key, entry.value = "location", "../../secret.bin"
    return made


def _length(size: int) -> bytes:
    out = b""
    while size > 127:
        out += bytes([size & 127 | 128])
        size >>= 7
    return out + bytes([size])


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
        compile_network(NetworkFile(data, "b: spatial.onnx", (1, 4), 4))
    with pytest.raises(BundleError, match=OUTSIDE):
        float_onnx(data, "fp32")
    file = tmp_path / "model.onnx"
    file.write_bytes(data)
    with pytest.raises(ExportError, match=OUTSIDE):
        read_model(file)


BODY = helper.make_graph([], "body", [], [])
NESTED: dict[str, Callable[[onnx.ModelProto], object]] = {
    "body": lambda m: m.graph.node.append(with_attribute("then_branch", BODY)),
    "list of graphs": lambda m: m.graph.node.append(with_attribute("v", [BODY])),
    "function": lambda m: m.functions.add(),
    "training": lambda m: m.training_info.add(),
}


@pytest.mark.parametrize("place", NESTED)
def test_a_graph_in_a_graph_is_refused(place: str) -> None:
    """A Loop could go on for ever, and each could hide a tensor."""
    model = plain()
    NESTED[place](model)
    with pytest.raises(BundleError, match="a nested graph"):
        check_self_contained(model.SerializeToString())


def test_every_field_of_the_format_is_known() -> None:
    """And each message of onnx.proto that can reach a tensor is walked or refused."""
    from edge.bundle.self_contained import _FIELDS

    names = {
        "Model": "ModelProto",
        "Graph": "GraphProto",
        "Node": "NodeProto",
        "Attribute": "AttributeProto",
        "Sparse": "SparseTensorProto",
        "Tensor": "TensorProto",
    }
    walked = {full: name for name, full in names.items()}
    refused = {"GraphProto", "FunctionProto", "TrainingInfoProto"}
    wires = {1: 1, 2: 5, 3: 0, 4: 0, 5: 0, 9: 2, 12: 2, 14: 0}  # by FieldDescriptor.type
    for name, full in names.items():
        for field in getattr(onnx, full).DESCRIPTOR.fields:
            kind = _FIELDS[name].get(field.number)
            within = None if field.message_type is None else field.message_type.name
            if (name, field.name) == ("Tensor", "external_data"):
                assert kind == "Outside"
            elif within in refused and (name, field.name) != ("Model", "graph"):
                assert kind == "Graphs"
            elif within is not None:
                assert kind == walked.get(within, frozenset({2}))
            else:
                numbers = field.type not in (9, 12) and field.is_repeated
                assert kind == frozenset({wires[field.type]} | ({2} if numbers else set()))


def _field(number: int, data: bytes, above: int = 0) -> bytes:
    return _length((number << 3 | 2) + above) + _length(len(data)) + data


ENTRY = _field(1, b"location") + _field(2, b"/etc/passwd")
SAFE = tensor(False).SerializeToString()
# a tensor whose place some parser would take from bytes that another skips or reads otherwise
DISGUISED = {
    "a tag of 33 bits": SAFE + _field(13, ENTRY, 1 << 32),
    "a tag of 64 bits": SAFE + _field(13, ENTRY, 1 << 63),
    "a location's tag of 33 bits": SAFE + _length((14 << 3) + (1 << 32)) + b"\1",
    "a tag longer than it has to be": SAFE + bytes([13 << 3 | 2 | 128, 128, 0, len(ENTRY)]) + ENTRY,
    "a length longer than it has to be": SAFE + bytes([8 << 3 | 2, 128, 0]),
    "a location of 33 bits": SAFE + bytes([14 << 3]) + _length(1 << 32),
    "a location of 65 bits": SAFE + bytes([14 << 3]) + b"\x80" * 9 + b"\x02",
    "here after there": SAFE + bytes([14 << 3, 1, 14 << 3, 0]),
    "a location as bytes": SAFE + _field(14, b"\1"),
    "entries as a number": SAFE + bytes([13 << 3, 1]),
    "a group": SAFE + bytes([13 << 3 | 3]) + ENTRY + bytes([13 << 3 | 4]),
    "field 0": SAFE + b"\2\0",
    "wire type 7": SAFE + bytes([13 << 3 | 7, 1]),
    "an unknown field": SAFE + _field(15, ENTRY),
    "before all else": _field(13, ENTRY) + SAFE,
}


@pytest.mark.parametrize("how", DISGUISED)
def test_what_two_parsers_read_differently_is_refused(how: str) -> None:
    def model(data: bytes) -> bytes:
        return plain().SerializeToString() + _field(7, _field(5, data))  # protobuf joins both

    check_self_contained(model(SAFE))
    data = model(DISGUISED[how])
    with pytest.raises(BundleError, match=rf"not readable ONNX|{OUTSIDE}"):
        check_self_contained(data)
    with pytest.raises(BundleError, match=r"^b: "):
        compile_network(NetworkFile(data, "b", (1, 4), 4))


def test_a_tensor_in_two_parts_is_joined() -> None:
    """A message that may stand once and stands twice is one: each part is looked at."""
    node = with_attribute("value", tensor(False))
    attribute = node.attribute[0].SerializeToString() + _field(5, _field(13, ENTRY))
    graph = _field(7, _field(1, _field(5, attribute)))
    with pytest.raises(BundleError, match=OUTSIDE):
        check_self_contained(plain().SerializeToString() + graph)


def test_only_the_reader_of_onnx_sees_a_network(tmp_path: Path) -> None:
    """Left to choose, OpenVINO reads its own format from the same bytes, which may name files."""
    import openvino

    from edge.devices.openvino import read_onnx

    core = openvino.Core()
    file = tmp_path / "other.xml"
    openvino.save_model(core.read_model(plain().SerializeToString(), b""), file)
    assert core.read_model(file.read_bytes(), file.with_suffix(".bin").read_bytes())
    with pytest.raises(RuntimeError):
        read_onnx(file.read_bytes())


def test_the_networks_of_the_demo_are_whole(demo_bundle: Path) -> None:
    for stream in ("spatial", "temporal"):
        check_self_contained((demo_bundle / f"{stream}.onnx").read_bytes())


def test_a_later_field_does_not_hide_an_earlier_one() -> None:
    """protobuf joins a message that stands twice, and takes the last of two numbers."""
    outside = plain()
    PLACES["initializer"](outside, True)
    with pytest.raises(BundleError, match=OUTSIDE):
        check_self_contained(outside.SerializeToString() + plain().SerializeToString())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no graph"),
        (b"<?xml version='1.0'?><net/>", "field 7 of type 4"),
        (b"\x3a\xff\xff\xff\xff\x7f", "cut short"),
        (b"\x3a" + b"\xff" * 9 + b"\x01", "cut short"),
        (b"\x80" * 11, "a number has no end"),
        (b"\x3a\x02\x0a\x7f", "cut short"),
        (b"\x08\x00" * 2_000_001, "more than 2000000 fields"),
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
