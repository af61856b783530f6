"""The precision of an engine's layers.

TensorRT silently runs a convolution with misplaced Q/DQ in float, so the precision is checked after
the build: with the engine inspector, or, if the engine cannot be loaded here (on a build machine
without its GPU), from the build log, which describes each layer in one line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

# Searched in this order, since "bfloat16" contains "float". The inspector describes types in
# phrases: "Thirty-two wide channel vectorized row major Int8 format".
_TYPES = (
    ("int8", "int8"),
    ("fp8", "fp8"),
    ("bf16", "bf16"),
    ("bfloat16", "bf16"),
    ("half", "fp16"),
    ("fp16", "fp16"),
    ("float", "fp32"),
    ("fp32", "fp32"),
)
# One field for format and type up to TensorRT 10, two from 11; the log has a third spelling.
_TYPE_KEYS = ("Format/Datatype", "Datatype", "DataType")
_LOGGED_TYPE = re.compile(r"Inputs: \[ ?\{[^}]*?Data[tT]ype: ([^,}]+)")


@dataclass(frozen=True, slots=True)
class LayerPrecision:
    """One layer of an engine. kind: its type, such as "CaskConvolution". precision: of its first
    input; "unknown" if it is not reported."""

    name: str
    kind: str
    precision: str


def inspect_layers(trt: ModuleType, engine: Any) -> tuple[LayerPrecision, ...]:
    """The layers of a loaded engine; empty if TensorRT's report cannot be parsed."""
    inspector = engine.create_engine_inspector()
    return layers_from_report(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def layers_from_report(report: str) -> tuple[LayerPrecision, ...]:
    """The layers in the inspector's JSON; empty if it cannot be parsed."""
    try:
        # names may hold control characters
        layers = json.loads(report, strict=False)["Layers"]
    except (ValueError, KeyError, TypeError):
        return ()  # TensorRT does not escape some names
    return tuple(_from_entry(layer) for layer in layers if isinstance(layer, dict))


def layers_from_log(lines: Iterable[str]) -> tuple[LayerPrecision, ...]:
    """The layers in lines of the build log, of the form
    "Name: ..., LayerType: ..., Inputs: [ ... Datatype: Int8 ...], ..."."""
    layers = []
    for line in lines:
        name, _, rest = line.partition("Name: ")[2].partition(", LayerType: ")
        kind = rest.partition(",")[0]
        first = _LOGGED_TYPE.search(rest)
        layers.append(LayerPrecision(name, kind, _precision(first[1] if first else "")))
    return tuple(layers)


def convolutions(layers: Iterable[LayerPrecision]) -> list[LayerPrecision]:
    """The convolutions; the graph compiler calls them "correlation"."""
    return [
        layer for layer in layers if "conv" in layer.kind.lower() or layer.kind == "correlation"
    ]


def float_convolutions(layers: Iterable[LayerPrecision]) -> list[str]:
    """The names of the convolutions that do not run in INT8."""
    return [layer.name for layer in convolutions(layers) if layer.precision != "int8"]


def _from_entry(layer: dict[str, Any]) -> LayerPrecision:
    inputs = layer.get("Inputs") or [{}]
    first = inputs[0] if isinstance(inputs[0], dict) else {}
    dtype = next((str(first[key]) for key in _TYPE_KEYS if key in first), "")
    kind = layer.get("ParameterType") or layer.get("LayerType") or "unknown"
    return LayerPrecision(str(layer.get("Name", "unnamed")), str(kind), _precision(dtype))


def _precision(description: str) -> str:
    lower = description.lower()
    return next((precision for word, precision in _TYPES if word in lower), "unknown")
