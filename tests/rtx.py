"""TensorRT-RTX as a witness: NVIDIA's own parser and builder, which need no GPU.

It builds for a named compute capability and says in its log what each layer of the optimised engine
computes in. It cannot run the engine, and it is not what a Jetson runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

_DATATYPE = re.compile(r"Datatype: (\w+)")


@dataclass(frozen=True)
class Built:
    """Names of the engine's convolutions, by the type of their input."""

    int8: tuple[str, ...]
    float: tuple[str, ...]


def build(onnx_bytes: bytes) -> Built:
    """Build an engine for SM86. Fails the test with TensorRT's own errors where it is refused."""
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: object, message: str) -> None:
            self.lines.append(message)

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network()
    parser = trt.OnnxParser(network, log)
    if not parser.parse(onnx_bytes):
        errors = [str(parser.get_error(index)) for index in range(parser.num_errors)]
        raise AssertionError(f"TensorRT-RTX refuses the model: {errors}")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    assert builder.build_serialized_network(network, config) is not None, log.lines[-5:]
    found: dict[str, str] = {}
    for line in "\n".join(log.lines).split("\n"):
        if "LayerType: correlation" in line:
            first = _DATATYPE.search(line.partition("Inputs: [")[2])
            assert first is not None, line
            found[line.partition("Name: ")[2].partition(",")[0]] = first[1]
    int8 = tuple(name for name, kind in found.items() if kind == "Int8")
    return Built(int8, tuple(name for name in found if name not in int8))
