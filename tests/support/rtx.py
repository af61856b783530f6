"""TensorRT-RTX as a witness: NVIDIA's own parser and builder, which need no GPU.

It builds for a named compute capability and says in its log what each layer of the optimised engine
computes in. It cannot run the engine, and it is not what a Jetson runs.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import pytest

from edge.devices.tensorrt.builder import BuildConfig, BuiltEngine, build_engine

INT8 = BuildConfig("int8", None, None)


@cache
def load_rtx() -> ModuleType:
    """tensorrt_rtx as `build_engine` takes it: all its own, but for a builder that is told which
    GPU to build for, where TensorRT would look for one. One module, as it has one logger."""
    rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

    class Builder(rtx.Builder):
        def create_builder_config(self) -> Any:
            config = super().create_builder_config()
            config.num_compute_capabilities = 1
            config.set_compute_capability(rtx.ComputeCapability.SM86, 0)
            return config

    module = ModuleType("tensorrt_rtx_for_sm86")
    module.__dict__.update({name: getattr(rtx, name) for name in dir(rtx) if name[0] != "_"})
    module.__dict__.update(__version__=rtx.__version__, Builder=Builder)
    return module


def build(onnx_bytes: bytes, config: BuildConfig = INT8) -> BuiltEngine:
    """The product's own build of an engine, for SM86."""
    return build_engine(load_rtx(), onnx_bytes, "network.onnx", config, b"")
