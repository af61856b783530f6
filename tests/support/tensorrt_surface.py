"""A double of the `tensorrt` module, one per version, that has that version's names and no others.

The names come from tests/tensorrt_api/api_VERSION.json, read from NVIDIA's own bindings of each
version. Classes that those files do not list have what all versions from 8.5 on document and
tensorrt_rtx has (Logger, ILogger, EngineInspector, LayerInformationFormat, TensorIOMode,
IHostMemory, ParserError). Any other name raises AttributeError with class, name and version.

It works, in its way: a plan is the ONNX with what the builder was told, and an execution context
runs that ONNX on the CPU, float32 at the bound addresses, which therefore are the host's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.support import tensorrt_builder as builder
from tests.support import tensorrt_engine as engine
from tests.support.tensorrt_guard import make_enum

API = Path(__file__).parent / "tensorrt_api"
VERSIONS = (
    "8.6.1",
    "10.0.1",
    "10.3.0",
    "10.7.0",
    "10.13.3.9",
    "10.16.1.11",
    "11.0.0.114",
    "11.4.0.106",
)
ENUMS = (
    "BuilderFlag",
    "NetworkDefinitionCreationFlag",
    "DeviceType",
    "DataType",
    "MemoryPoolType",
    "ProfilingVerbosity",
)
# Of what the files do not list. See the head of this file.
UNLISTED_ENUMS = {
    "LayerInformationFormat": ["ONELINE", "JSON"],
    "TensorIOMode": ["NONE", "INPUT", "OUTPUT"],
}
SEVERITIES = ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"]
UNLISTED = {
    "EngineInspector": ["get_engine_information", "get_layer_information", "execution_context"],
    "ParserError": ["code", "desc", "file", "func", "line", "node"],
    "IHostMemory": ["dtype", "nbytes"],
}
CLASSES = (
    builder.Builder,
    builder.INetworkDefinition,
    builder.IBuilderConfig,
    builder.ITimingCache,
    builder.OnnxParser,
    builder.ParserError,
    builder.IHostMemory,
    engine.Runtime,
    engine.ICudaEngine,
    engine.IExecutionContext,
    engine.EngineInspector,
)

Job = Callable[[], None]
Enqueue = Callable[[int, Job], bool]
Access = Callable[[int, int, bool], None]


class Surface(ModuleType):
    """The module. dla_cores, fast_int8: of the device. gpu: whether there is one at all. enqueue:
    gets each inference, as (stream handle, job), and calls the job when it likes, unless it
    answers False; at once if None.
    access: is told (address, bytes, whether to write) before memory is read or written.
    refuse_enqueue: execute_async_v3 answers False. api: the version whose names these are, where
    that is another. int8_fault: what building INT8 ends with; "" if it works.
    """

    def __init__(
        self,
        version: str,
        *,
        dla_cores: int = 0,
        fast_int8: bool = True,
        gpu: bool = True,
        enqueue: Enqueue | None = None,
        access: Access | None = None,
        refuse_enqueue: bool = False,
        api: str | None = None,
        int8_fault: str = "",
    ) -> None:
        super().__init__("tensorrt")
        self.__version__ = version
        self._api: dict[str, Any] = json.loads((API / f"api_{api or version}.json").read_text())
        self._dla_cores, self._fast_int8, self._gpu = dla_cores, fast_int8, gpu
        self._enqueue = enqueue or _at_once
        self._access = access or (lambda address, size, write: None)
        self._refuse_enqueue, self._int8_fault = refuse_enqueue, int8_fault
        self._built: list[dict[str, Any]] = []
        self._logger: Any = None
        _add_enums(self)
        _add_classes(self)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"tensorrt.{name} is not in TensorRT {self.__version__}")

    def _first_logger(self, logger: Any) -> Any:
        """The one that everything is told to, whichever is given later."""
        self._logger = self._logger or logger
        return self._logger

    @property
    def builds(self) -> list[dict[str, Any]]:
        """What the builder was told, a build an entry."""
        return self._built


def _at_once(handle: int, job: Job) -> bool:
    job()
    return True


def _add_enums(trt: Surface) -> None:
    for name in ENUMS:
        setattr(trt, name, make_enum(name, trt._api[name], trt.__version__))
    for name, members in UNLISTED_ENUMS.items():
        setattr(trt, name, make_enum(name, members, trt.__version__))


def _add_classes(trt: Surface) -> None:
    for base in CLASSES:
        name = base.__name__
        names = frozenset(trt._api.get(name) or UNLISTED[name])
        body = {"_trt": trt, "_names": names, "_label": (name, trt.__version__)}
        setattr(trt, name, type(name, (base,), body))
    severities = {s.name: s for s in make_enum("Severity", SEVERITIES, trt.__version__)}
    trt.ILogger = type("ILogger", (builder.ILogger,), severities)
    if "progress_monitor" in trt._api["IBuilderConfig"]:
        trt.IProgressMonitor = type("IProgressMonitor", (), {})
    trt.Logger = type("Logger", (trt.ILogger,), {})
    if "IInt8EntropyCalibrator2" in trt._api["calib"]:
        trt.IInt8EntropyCalibrator2 = builder.Calibrator
