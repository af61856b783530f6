"""What an engine's layers compute in, in the words of each TensorRT."""

from __future__ import annotations

import json

import pytest

from edge.devices.tensorrt.layers import (
    LayerPrecision,
    convolutions,
    float_convolutions,
    layers_from_log,
    layers_from_report,
)


def report(kind: str, **first_input: str) -> str:
    layers = [{"Name": "net\x1elayer", "LayerType": kind, "Inputs": [first_input]}]
    # as the inspector does, with control characters as they are
    return json.dumps({"Layers": layers}).replace("\\u001e", "\x1e")


@pytest.mark.parametrize(
    ("first_input", "precision"),
    [
        ({"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}, "int8"),
        ({"Format/Datatype": "Int8"}, "int8"),
        ({"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}, "fp16"),
        ({"Format/Datatype": "Half"}, "fp16"),
        ({"Format/Datatype": "Row major linear FP32 format"}, "fp32"),
        ({"Format": "Row major linear", "Datatype": "Float"}, "fp32"),
        ({"Format": "Row major linear", "DataType": "BFloat16"}, "bf16"),
        ({}, "unknown"),
    ],
)
def test_reports(first_input: dict[str, str], precision: str) -> None:
    layers = layers_from_report(report("CaskConvolution", **first_input))
    assert layers == (LayerPrecision("net\x1elayer", "CaskConvolution", precision),)
    assert float_convolutions(layers) == ([] if precision == "int8" else ["net\x1elayer"])


@pytest.mark.parametrize(
    ("kind", "is_one"),
    [
        ("CaskConvolution", True),
        ("CudaDepthwiseConvolution", True),
        ("FusedConvActConvolution", True),
        ("correlation", True),
        ("Reformat", False),
        ("kgen", False),
        ("DLA", False),
    ],
)
def test_what_convolves(kind: str, is_one: bool) -> None:
    assert (len(convolutions(layers_from_report(report(kind)))) == 1) == is_one


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", '{"Layers": ["only", "names"]}', '{"Layers": [{"Name": "a"b"}]}'],
)
def test_reports_that_say_nothing(text: str) -> None:
    assert layers_from_report(text) == ()


def test_a_layer_without_inputs() -> None:
    (layer,) = layers_from_report('{"Layers": [{"Name": "c", "LayerType": "Constant"}]}')
    assert layer == LayerPrecision("c", "Constant", "unknown")


@pytest.mark.parametrize("key", ["Datatype", "Format/Datatype"])
def test_log_lines(key: str) -> None:
    line = (
        f"Name: /conv/Conv_1, LayerType: correlation, Inputs: [ {{ Name: x, Dimensions: [1,4], "
        f"{key}: Int8, Format: (NHWC) }}], Outputs: [ {{ Name: y, {key}: Float }}]"
    )
    assert layers_from_log([line]) == (LayerPrecision("/conv/Conv_1", "correlation", "int8"),)


def test_a_log_line_without_inputs() -> None:
    line = "Name: c, LayerType: Constant, Inputs: [], Outputs: [ { Name: y, Datatype: Float }]"
    assert layers_from_log([line]) == (LayerPrecision("c", "Constant", "unknown"),)
