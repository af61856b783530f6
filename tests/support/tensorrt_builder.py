"""Doubles of TensorRT's builder: they write a plan that holds the ONNX and what they were told."""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

import onnx

from edge.bundle.tensor_names import INPUT
from tests.support.tensorrt_guard import Guarded

MAGIC = b"tensorrt double "
TIMINGS = b"timings of "


class Calibrator:
    _initialised = False

    def __init__(self) -> None:
        self._initialised = True


class ILogger:
    """A base to subclass: its names are the subclass's own business."""

    _names: ClassVar[frozenset[str]] = frozenset()
    _initialised = False

    def __init__(self) -> None:
        self._initialised = True


class Builder(Guarded):
    _trt: ClassVar[Any]

    def __init__(self, logger: Any) -> None:
        if not logger._initialised:
            raise AssertionError("a logger without ILogger.__init__ crashes the real TensorRT")
        self._log = self._trt._first_logger(logger)
        if not self._trt._gpu:
            self._error("CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def _error(self, message: str) -> None:
        self._log.log(self._trt.Logger.ERROR, message)

    @property
    def num_DLA_cores(self) -> int:
        return self._trt._dla_cores

    @property
    def platform_has_fast_int8(self) -> bool:
        return self._trt._fast_int8

    def create_network(self, flags: int = 0) -> Any:
        return self._trt.INetworkDefinition(flags)

    def create_builder_config(self) -> Any:
        return self._trt.IBuilderConfig()

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        trt = self._trt
        told = config._told(network)
        fault = _fault(trt, told, network, config)
        if fault:
            self._error(fault)
            return None
        monitor = config._set.get("progress_monitor")
        if monitor is not None and not _run_phase(monitor):
            return None
        trt._built.append(told)
        cache = config._timing_cache
        if cache is not None:
            cache._data = TIMINGS + trt.__version__.encode()
        header = json.dumps(told).encode()
        plan = MAGIC + len(header).to_bytes(4, "big") + header + network._onnx
        return trt.IHostMemory(plan)


def _run_phase(monitor: Any) -> bool:
    monitor.phase_start("Building engine", None, 2)
    going_on = all(monitor.step_complete("Building engine", step) for step in range(2))
    monitor.phase_finish("Building engine")
    return going_on


def _fault(trt: Any, told: dict[str, Any], network: Any, config: Any) -> str:
    """Why the real builder would give nothing."""
    model = onnx.load_from_string(network._onnx)
    kinds = {node.op_type for node in model.graph.node}
    halves = any(t.data_type == onnx.TensorProto.FLOAT16 for t in model.graph.initializer)
    typed = told["strongly_typed"] or not hasattr(trt.BuilderFlag, "INT8")
    flags = told["flags"]
    if typed and {"INT8", "FP16"} & set(flags):
        return "a strongly typed network takes no precision flags"
    if not typed and "QuantizeLinear" in kinds and "INT8" not in flags:
        return "the network has Q/DQ layers, but INT8 is not enabled"
    if not typed and halves and "FP16" not in flags:
        return "the network has FP16 tensors, but FP16 is not enabled"
    if trt._int8_fault and ("QuantizeLinear" in kinds or "INT8" in flags):
        return trt._int8_fault
    if told["dla_core"] is not None and told["dla_core"] >= trt._dla_cores:
        return "there is no such DLA core"
    if not typed and "INT8" in flags and "QuantizeLinear" not in kinds:
        return _calibrate(trt, config, told)
    return ""


def _calibrate(trt: Any, config: Any, told: dict[str, Any]) -> str:
    calibrator = config.int8_calibrator
    if calibrator is None or not calibrator._initialised:
        return "no calibrator, and tensors without a range"
    calibrator.get_batch_size()
    cache = bytes(calibrator.read_calibration_cache())
    header, *lines = cache.decode().strip().split("\n")
    told["calibrated"] = dict(line.rsplit(": ", 1) for line in lines)
    major, minor, patch = (int(n) for n in re.findall(r"\d+", trt.__version__)[:3])
    number = major * (10000 if major > 9 else 1000) + minor * 100 + patch
    if header != f"TRT-{number}-EntropyCalibration2":
        try:
            calibrator.get_batch([INPUT])
        except Exception:
            return "an exception in get_batch"  # printed and forgotten by the binding
    return ""


class INetworkDefinition(Guarded):
    _trt: ClassVar[Any]

    def __init__(self, flags: int) -> None:
        known = self._trt.NetworkDefinitionCreationFlag
        self._flags = [flag.name for flag in known if flags >> flag.value & 1]
        self._onnx = b""
        rest = flags & ~sum(1 << flag.value for flag in known)
        if rest:
            raise AssertionError(f"unknown network flags {rest:#x}")
        if self._trt.__version__.startswith("8.") and "EXPLICIT_BATCH" not in self._flags:
            raise AssertionError("TensorRT 8 parses ONNX with an explicit batch only")


class IBuilderConfig(Guarded):
    _trt: ClassVar[Any]

    def __init__(self) -> None:
        self._set: dict[str, Any] = {}
        self._flags: list[str] = []
        self._limits: dict[str, int] = {}
        self._timing_cache: Any = None

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            self._require(name)
            self._set[name] = value
            return
        object.__setattr__(self, name, value)

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name in self._set:
            return self._set[name]
        return super().__getattribute__(name)

    int8_calibrator = progress_monitor = None

    def set_flag(self, flag: Any) -> None:
        self._flags.append(flag.name)

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self._limits[pool.name] = size

    def create_timing_cache(self, data: bytes) -> Any:
        return self._trt.ITimingCache(data)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        matches = cache._data in (b"", TIMINGS + self._trt.__version__.encode())
        if matches or ignore_mismatch:
            self._timing_cache = cache
            self._warm = cache._data != b""
        return matches or ignore_mismatch

    def get_timing_cache(self) -> Any:
        return self._timing_cache

    def _told(self, network: Any) -> dict[str, Any]:
        device = self._set.get("default_device_type")
        on_dla = device is not None and device.name == "DLA"
        return {
            "version": self._trt.__version__,
            "network_flags": network._flags,
            "strongly_typed": "STRONGLY_TYPED" in network._flags,
            "flags": sorted(self._flags),
            "dla_core": self._set.get("DLA_core", 0) if on_dla else None,
            "limits": self._limits,
            "verbosity": getattr(self._set.get("profiling_verbosity"), "name", ""),
            "warm": getattr(self, "_warm", False),
        }


class ITimingCache(Guarded):
    _trt: ClassVar[Any]

    def __init__(self, data: bytes) -> None:
        self._data = data

    def serialize(self) -> Any:
        return self._trt.IHostMemory(self._data)


class IHostMemory(Guarded):
    def __init__(self, data: bytes) -> None:
        self._data = data

    def __bytes__(self) -> bytes:  # the real one is a buffer, which Python 3.10 cannot write
        return self._data

    @property
    def nbytes(self) -> int:
        return len(self._data)


class ParserError(Guarded):
    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __str__(self) -> str:
        return self._reason


def _int8_weights(data: bytes) -> str:
    """The first int8 initializer that a DequantizeLinear reads; empty if there is none."""
    graph = onnx.load_from_string(data).graph
    int8 = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.INT8}
    read = (node.input[0] for node in graph.node if node.op_type == "DequantizeLinear")
    return next((name for name in read if name in int8), "")


class OnnxParser(Guarded):
    _trt: ClassVar[Any]

    def __init__(self, network: Any, logger: Any) -> None:
        self._network, self._faults = network, []

    def parse(self, data: bytes) -> bool:
        try:
            onnx.checker.check_model(onnx.load_from_string(data))
        except Exception as error:
            self._faults = [self._trt.ParserError(str(error).split("\n")[0])]
            return False
        if self._trt.__version__.startswith("8.") and (weights := _int8_weights(data)):
            self._faults = [self._trt.ParserError(f"{weights}: invalid weights type of Int8")]
            return False
        self._network._onnx = data
        return True

    @property
    def num_errors(self) -> int:
        return len(self._faults)

    def get_error(self, index: int) -> Any:
        return self._faults[index]
