"""The tensorrt package and the differences between its versions. The only file that imports it.

Features are detected by name (does the flag exist?), or by version where there is no name, as for
the DLA. Two versions matter most: 10.0 added strongly typed networks, whose ONNX file alone decides
the precision of each layer; 11.0 removed the alternatives, precision flags and calibrators.
"""

from __future__ import annotations

import gc
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, Literal

from edge.errors import DeviceError

OLDEST = (8, 5)  # the first with execute_async_v3
NEWEST = (11, 4)  # the last that was tested
FIRST_INT8_WEIGHTS = (10,)
LAST_IMPLICIT_DLA = (10, 7)  # the last with DLA by a calibration cache
FIRST_TYPED_DLA = (11, 4, 1)  # the first with DLA by Q/DQ; none in between supports the DLA
ERRORS_KEPT = 4
LAYERS = "LayerType: "  # in each line of the build log that describes a layer of the engine


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this TensorRT supports.

    typed_by_flag: networks are strongly typed with the flag STRONGLY_TYPED. If False, no network is
        (8.x) or every network is (11 and later).
    precision_flags: BuilderFlag.INT8 and FP16 exist and allow a reduced precision.
    explicit_batch: networks need the flag EXPLICIT_BATCH.
    int8_weights: weights may be int8 in the ONNX file, with a DequantizeLinear alone.
    dla: how a network runs in INT8 on the DLA; None without DLA.
    """

    typed_by_flag: bool
    precision_flags: bool
    explicit_batch: bool
    int8_weights: bool
    dla: Literal["calibration", "typed"] | None


def load_tensorrt() -> ModuleType:
    """The tensorrt package. Raises DeviceError with the remedy if it is missing, broken or too
    old."""
    try:
        import tensorrt
    except ModuleNotFoundError as error:
        if error.name != "tensorrt":
            raise _unloadable(error) from error
        raise DeviceError(
            "TensorRT is not installed; on a Jetson: sudo apt install python3-libnvinfer, and make "
            "the virtual environment with --system-site-packages; on a PC: pip install tensorrt"
        ) from None
    except (ImportError, OSError, RuntimeError) as error:
        raise _unloadable(error) from error
    if version_of(tensorrt)[:2] < OLDEST:
        raise DeviceError(
            f"TensorRT {tensorrt.__version__} is too old, {OLDEST[0]}.{OLDEST[1]} or later is "
            "needed; on a Jetson flash JetPack 6 or later, the first for Python 3.10"
        )
    return tensorrt


def _unloadable(error: Exception) -> DeviceError:
    if "libnvdla_compiler.so" in str(error):
        return DeviceError(
            "TensorRT is installed but libnvdla_compiler.so is missing: sudo apt install "
            "nvidia-l4t-dla-compiler (of the same version as nvidia-l4t-core), then sudo ldconfig; "
            "in a container: use --runtime nvidia and an image of the board's own JetPack"
        )
    reason = str(error).strip().partition("\n")[0]
    return DeviceError(f"TensorRT is installed but cannot be loaded ({reason}); install it again")


def version_of(trt: ModuleType) -> tuple[int, ...]:
    """(10, 3, 0) of "10.3.0", (10, 13, 3, 9) of "10.13.3.9"."""
    return tuple(int(part) for part in re.findall(r"\d+", trt.__version__)[:4])


def capabilities(trt: ModuleType) -> Capabilities:
    """What this version of TensorRT supports."""
    typing = hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    flags = hasattr(trt.BuilderFlag, "INT8") and hasattr(trt.BuilderFlag, "FP16")
    version = version_of(trt)
    dla: Literal["calibration", "typed"] | None = None
    if version[:2] <= LAST_IMPLICIT_DLA and hasattr(trt, "IInt8EntropyCalibrator2"):
        dla = "calibration"
    elif version[:3] >= FIRST_TYPED_DLA:
        dla = "typed"
    return Capabilities(
        typed_by_flag=typing and flags,
        precision_flags=flags,
        explicit_batch=not typing and flags,
        int8_weights=version >= FIRST_INT8_WEIGHTS,
        dla=dla,
    )


def cache_header(version: tuple[int, ...]) -> str:
    """The first line of a calibration cache. TensorRT refuses a cache of another version."""
    major, minor, patch = (*version, 0, 0)[:3]
    number = major * 10000 if major >= 10 else major * 1000
    return f"TRT-{number + minor * 100 + patch}-EntropyCalibration2"


def has_fast_int8(trt: ModuleType) -> bool:
    """Whether the GPU has fast INT8. All GPUs of the TensorRT versions that cannot tell have it."""
    return bool(getattr(open_builder(trt, begin_log(trt)), "platform_has_fast_int8", True))


@contextmanager
def without_collection() -> Iterator[None]:
    """Disable garbage collection in the block or, as `@without_collection()`, in a function.

    A collection within TensorRT's call of our logger may free another TensorRT object, which waits
    for ever for a lock that the call holds (TensorRT-RTX 1.7).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def open_builder(trt: ModuleType, log: Any) -> Any:
    """A trt.Builder. Raises DeviceError if TensorRT finds no usable GPU."""
    try:
        return trt.Builder(log)
    except TypeError:  # what the binding raises for a null pointer
        raise no_gpu(trt, log) from None


def no_gpu(trt: ModuleType, log: Any) -> DeviceError:
    """The error if TensorRT finds no usable GPU, with its last errors."""
    return DeviceError(
        f"TensorRT {trt.__version__} finds no usable GPU; check the driver, and that the GPU has "
        f"free memory{log.last_errors()}"
    )


def begin_log(trt: ModuleType) -> Any:
    """The trt.ILogger of this process, emptied: what it holds from now on is about what the caller
    does next. It prints nothing and keeps the last errors and the lines about layers.

    layer_lines: one line of the build log per layer, with profiling_verbosity DETAILED.
    last_errors(): " (TensorRT: ...)", or "" if there were none.
    """
    log = _log(trt)
    log.empty()
    return log


@cache
def _log(trt: ModuleType) -> Any:
    """One for the process: TensorRT tells everything to the first logger that it is given, and
    nothing to another while objects of the first one are left."""
    severe = (trt.Logger.INTERNAL_ERROR, trt.Logger.ERROR)

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # the binding crashes without it
            self.empty()

        def empty(self) -> None:
            self.errors: deque[str] = deque(maxlen=ERRORS_KEPT)
            self.layer_lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in severe:
                self.errors.append(" ".join(message.split()))
            elif LAYERS in message:
                self.layer_lines += [line for line in message.split("\n") if LAYERS in line]

        def last_errors(self) -> str:
            return f" (TensorRT: {'; '.join(self.errors)})" if self.errors else ""

    return Log()
