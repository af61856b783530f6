"""Doubles of TensorRT's engine: they read the builder's plan and run its ONNX on the CPU."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import onnx

from edge.bundle.tensor_names import INPUT, OUTPUT
from tests.support.tensorrt_builder import MAGIC
from tests.support.tensorrt_guard import Guarded


class Runtime(Guarded):
    _trt: ClassVar[Any]

    def __init__(self, logger: Any) -> None:
        self._log = self._trt._first_logger(logger)
        self._core: int | None = None

    @property
    def DLA_core(self) -> int | None:
        return self._core

    @DLA_core.setter
    def DLA_core(self, core: int) -> None:
        self._core = core

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        if not plan.startswith(MAGIC):
            self._log.log(self._trt.Logger.ERROR, "Magic tag does not match")
            return None
        size = int.from_bytes(plan[len(MAGIC) : len(MAGIC) + 4], "big")
        start = len(MAGIC) + 4 + size
        told = json.loads(plan[len(MAGIC) + 4 : start])
        if told["version"] != self._trt.__version__:
            self._log.log(self._trt.Logger.ERROR, "The engine plan file is of another version")
            return None
        if told["dla_core"] != self._core:
            raise AssertionError(f"engine for DLA core {told['dla_core']}, runtime {self._core}")
        return self._trt.ICudaEngine(told, plan[start:])


class ICudaEngine(Guarded):
    _trt: ClassVar[Any]

    def __init__(self, told: dict[str, Any], data: bytes) -> None:
        self._told, self._onnx = told, data
        graph = onnx.load_from_string(data).graph
        self._tensors = {
            value.name: (value, mode)
            for values, mode in ((graph.input, "INPUT"), (graph.output, "OUTPUT"))
            for value in values
        }

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self._trt.TensorIOMode[self._tensors[name][1]]

    def get_tensor_dtype(self, name: str) -> Any:
        kind = self._tensors[name][0].type.tensor_type.elem_type
        names = {onnx.TensorProto.FLOAT: "FLOAT", onnx.TensorProto.FLOAT16: "HALF"}
        return self._trt.DataType[names[kind]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        dims = self._tensors[name][0].type.tensor_type.shape.dim
        return tuple(dim.dim_value for dim in dims)

    def create_execution_context(self) -> Any:
        return self._trt.IExecutionContext(self)

    def create_engine_inspector(self) -> Any:
        return self._trt.EngineInspector(self)


class EngineInspector(Guarded):
    _trt: ClassVar[Any]

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def get_engine_information(self, kind: Any) -> str:
        engine = self._engine
        detailed = engine._told["verbosity"] == "DETAILED"
        if kind.name != "JSON" or not detailed:
            return "{}"
        if engine._told["dla_core"] is not None:
            return json.dumps({"Layers": [{"Name": "{ForeignNode}", "LayerType": "DLA"}]})
        return json.dumps({"Layers": list(_convolution_entries(self._trt, engine))})


def _convolution_entries(trt: Any, engine: Any) -> Any:
    """An entry a convolution, as the inspector of TensorRT 8 and 10, or of 11, words it."""
    graph = onnx.load_from_string(engine._onnx).graph
    makers = {node.output[0]: node for node in graph.node}
    halves = any(t.data_type == onnx.TensorProto.FLOAT16 for t in graph.initializer)
    for node in (node for node in graph.node if node.op_type == "Conv"):
        sources = [makers.get(name) for name in node.input[:2]]
        pairs = all(source is not None and "Dequ" in source.op_type for source in sources)
        # a scale for each output channel, or float without a word
        axis = next((a.i for a in sources[1].attribute if a.name == "axis"), 1) if pairs else 1
        kind = "Int8" if pairs and axis == 0 else "Half" if halves else "Float"
        if trt.__version__.startswith("11."):
            types = {"Format": "Row major linear", "Datatype": kind}
        else:
            types = {"Format/Datatype": f"Row major linear {kind} format"}
        yield {
            "Name": f"{node.name} + fused",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": node.input[0], **types}],
        }


class IExecutionContext(Guarded):
    _trt: ClassVar[Any]

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        if name not in self._engine._tensors or address == 0:
            return False
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if set(self._addresses) != {INPUT, OUTPUT} or self._trt._refuse_enqueue:
            return False
        engine, addresses = self._engine, dict(self._addresses)
        return bool(self._trt._enqueue(stream_handle, lambda: _run(engine, addresses)))


def _run(engine: Any, addresses: dict[str, int]) -> None:
    shapes = {name: engine.get_tensor_shape(name) for name in (INPUT, OUTPUT)}
    arrays = {name: _host_array(addresses[name], shape) for name, shape in shapes.items()}
    for name, array in arrays.items():
        engine._trt._access(addresses[name], array.nbytes, name == OUTPUT)
    network = _cpu_network(engine._onnx, shapes[INPUT], shapes[OUTPUT][1])
    arrays[OUTPUT][:] = network(arrays[INPUT])


def _host_array(address: int, shape: tuple[int, ...]) -> np.ndarray:
    kind = ctypes.c_float * int(np.prod(shape))
    return np.frombuffer(kind.from_address(address), np.float32).reshape(shape)


@lru_cache(maxsize=4)
def _cpu_network(data: bytes, shape: tuple[int, ...], classes: int) -> Callable[..., Any]:
    """Q/DQ networks on OpenVINO, the variants without on onnxruntime."""
    if b"QuantizeLinear" in data:
        from edge.devices.inference import NetworkFile
        from edge.devices.openvino import compile_network
        from tests.support.int8 import right_int8

        file = NetworkFile(data, "the double's network", shape, classes)
        return compile_network(file, right_int8()).infer
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda batch: session.run([OUTPUT], {INPUT: batch})[0]
