"""Networks of strangers that are whole, valid ONNX and yet no networks of this project."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge.bundle.tensor_names import INPUT, OUTPUT
from tests.support.command import assert_refused, twostream
from tests.support.manifests import with_network

node = helper.make_node
AXES = [0, 1, 2, 3]


def network(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    shape: tuple[int | None, ...] = (1, 8),
) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "main",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, (1, 3, 224, 224))],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    imports = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def shapeless() -> bytes:
    """As many logits as there are numbers other than zero."""
    nodes = [node("NonZero", [INPUT], ["places"]), node("Cast", ["places"], [OUTPUT], to=1)]
    return network(nodes, {}, (None, None))


def unfit() -> bytes:
    """As many logits as the sum of its input, made into eight: not those of the parity samples."""
    nodes = [
        node("ReduceSum", [INPUT, "axes"], ["sum"], keepdims=1),
        node("Cast", ["sum"], ["whole"], to=TensorProto.INT64),
        node("Reshape", ["whole", "flat"], ["count"]),
        node("ConstantOfShape", ["count"], ["zeros"]),
        node("Reshape", ["zeros", "eight"], [OUTPUT]),
    ]
    return network(
        nodes, {"axes": np.array(AXES), "flat": np.array([1]), "eight": np.array([1, 8])}
    )


def endless() -> bytes:
    """A loop of 2**62 rounds."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Identity", ["on"], ["still_on"]), node("Mul", ["x", "x"], ["y"])],
        "body",
        [
            value("round", TensorProto.INT64, []),
            value("on", TensorProto.BOOL, []),
            value("x", TensorProto.FLOAT, [1, 8]),
        ],
        [value("still_on", TensorProto.BOOL, []), value("y", TensorProto.FLOAT, [1, 8])],
    )
    nodes = [
        node("ReduceMean", [INPUT], ["mean"], axes=AXES, keepdims=0),
        node("Expand", ["mean", "eight"], ["begin"]),
        node("Loop", ["rounds", "true", "begin"], [OUTPUT], body=body),
    ]
    return network(
        nodes,
        {"rounds": np.array(2**62), "true": np.array(True), "eight": np.array([1, 8])},
    )


def numberless() -> bytes:
    """The logarithm of -1."""
    nodes = [
        node("ReduceMean", [INPUT], ["mean"], axes=AXES, keepdims=0),
        node("Log", ["minus"], ["nan"]),
        node("Add", ["nan", "mean"], [OUTPUT]),
    ]
    return network(nodes, {"minus": -np.ones((1, 8), np.float32)})


def unheard_of() -> bytes:
    """An operator that no library has, with an escape sequence in its name."""
    return network([node("Foo\x1b[31m\nBar", [INPUT], [OUTPUT])], {})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (unheard_of(), "spatial.onnx: OpenVINO cannot load it"),
        (shapeless(), "spatial.onnx: gives ["),
        (unfit(), "the spatial scores of parity sample 0 differ by 0."),
        (endless(), "spatial.onnx: the network has a nested graph"),
        (numberless(), "the spatial scores of parity sample 0 differ by nan"),
    ],
    ids=["unheard of", "shapeless", "unfit", "endless", "numberless"],
)
def test_a_strange_network_is_one_line(
    data: bytes, says: str, light_bundle: Path, tmp_path: Path
) -> None:
    bundle = with_network(light_bundle, tmp_path / "b", data)
    done = twostream(
        "run", "--device", "cpu", "--log-level", "error", bundle, "test://?frames=20", "--json",
        tmp_path / "o.jsonl",
    )  # fmt: skip
    assert_refused(done, says)


@pytest.mark.slow
def test_bench_tells_it_in_one_line_too(light_bundle: Path, tmp_path: Path) -> None:
    bundle = with_network(light_bundle, tmp_path / "b", shapeless())
    words = ("--device", "cpu", "--precision", "int8", "--log-level", "error")
    assert_refused(twostream("bench", bundle, *words), "spatial.onnx: gives [")
