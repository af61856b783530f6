"""What the layers of a built engine compute in.

TensorRT lets a convolution whose Q/DQ is misplaced run in float and says nothing, so the engine is
asked afterwards: through its inspector, or, where the engine cannot be opened (a build machine
without the GPU that it is for), from the build log, which has the same in one line a layer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

# The longer names hold the shorter ones, and every format of the inspector is a sentence:
# "Thirty-two wide channel vectorized row major Int8 format".
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
# TensorRT to 10 writes one field for format and type, 11 writes two, and the log a third spelling.
_TYPE_KEYS = ("Format/Datatype", "Datatype", "DataType")
_LOGGED_TYPE = re.compile(r"Inputs: \[ ?\{[^}]*?Data[tT]ype: ([^,}]+)")


@dataclass(frozen=True, slots=True)
class LayerPrecision:
    """One layer of an engine. precision: of its first input; "unknown" if not reported."""

    name: str
    kind: str
    precision: str


def inspect_layers(trt: ModuleType, engine: Any) -> tuple[LayerPrecision, ...]:
    """The layers of an opened engine; empty if TensorRT's report cannot be read."""
    inspector = engine.create_engine_inspector()
    return layers_from_report(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def layers_from_report(report: str) -> tuple[LayerPrecision, ...]:
    """From the inspector's JSON."""
    try:
        # names may hold control characters
        layers = json.loads(report, strict=False)["Layers"]
    except (ValueError, KeyError, TypeError):
        return ()  # some names break TensorRT's own quoting
    return tuple(_from_entry(layer) for layer in layers if isinstance(layer, dict))


def layers_from_log(lines: Iterable[str]) -> tuple[LayerPrecision, ...]:
    """From lines "Name: ..., LayerType: ..., Inputs: [ ... Datatype: Int8 ...], ..."."""
    layers = []
    for line in lines:
        name, _, rest = line.partition("Name: ")[2].partition(", LayerType: ")
        kind = rest.partition(",")[0]
        first = _LOGGED_TYPE.search(rest)
        layers.append(LayerPrecision(name, kind, _precision(first[1] if first else "")))
    return tuple(layers)


def convolutions(layers: Iterable[LayerPrecision]) -> list[LayerPrecision]:
    """The layers that convolve; "correlation" is what the graph compiler calls it."""
    return [
        layer for layer in layers if "conv" in layer.kind.lower() or layer.kind == "correlation"
    ]


def float_convolutions(layers: Iterable[LayerPrecision]) -> list[str]:
    """Names of the convolutions that do not compute in INT8."""
    return [layer.name for layer in convolutions(layers) if layer.precision != "int8"]


def _from_entry(layer: dict[str, Any]) -> LayerPrecision:
    inputs = layer.get("Inputs") or [{}]
    first = inputs[0] if isinstance(inputs[0], dict) else {}
    found = next((str(first[key]) for key in _TYPE_KEYS if key in first), "")
    kind = layer.get("ParameterType") or layer.get("LayerType") or "unknown"
    return LayerPrecision(str(layer.get("Name", "unnamed")), str(kind), _precision(found))


def _precision(text: str) -> str:
    low = text.lower()
    return next((name for word, name in _TYPES if word in low), "unknown")
