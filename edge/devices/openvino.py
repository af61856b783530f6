"""OpenVINO as an edge.devices.inference.InferenceBackEnd: the only file that imports it."""

from __future__ import annotations

import io
import platform
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.bundle.float_onnx import float_onnx
from edge.bundle.network import INPUT, OUTPUT, Precision
from edge.bundle.self_contained import check_self_contained
from edge.errors import BundleError, DeviceError
from edge.installation import install_line

# OpenVINO reports its use to Google Analytics if this module is installed; prevent that.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
try:
    import openvino
    from openvino.frontend import FrontEndManager
except ImportError as error:
    raise DeviceError(
        f"device cpu: OpenVINO is not installed; run: {install_line('pc')}"
    ) from error


def open_network(
    onnx: bytes, name: str, shape: tuple[int, ...], classes: int, precision: Precision = "int8"
) -> Network:
    """See InferenceBackEnd."""
    if precision != "int8":
        onnx = float_onnx(onnx, precision)
    return Network(onnx, name, shape, classes)


def describe(precision: Precision) -> str:
    """See InferenceBackEnd."""
    text = f"OpenVINO {openvino.__version__.split('-')[0]}, {platform.machine()}"
    if precision != "int8":
        return f"{text}, {precision}"
    return f"{text} without VNNI: INT8 computed in float" if _int8_saturates() else text


@cache
def _core() -> openvino.Core:
    """One for the process: each core installs a signal stack and, when it is deleted, restores the
    previous one, which may be gone by then. The next Ctrl-C would crash (OpenVINO 2026.4)."""
    return openvino.Core()


@cache
def _int8_saturates() -> bool:
    """Whether this CPU adds products of bytes in 16 bits, as x86 without VNNI does: scores of INT8
    networks are then wrong by several tenths, without any warning.
    """
    if platform.machine() != "x86_64":
        return False
    flags = Path("/proc/cpuinfo").read_text()
    return not re.search(r"\b(avx512_vnni|avx_vnni|amx_int8)\b", flags)


def read_onnx(onnx: bytes) -> openvino.Model:
    """Read with the ONNX reader only: by default OpenVINO also tries other formats, and a file can
    be valid in two at once."""
    reader = FrontEndManager().load_by_framework("onnx")
    return reader.convert(reader.load(io.BytesIO(onnx)))


def _last_line(error: Exception) -> str:
    """The reason, without the advice that OpenVINO adds to an operator that it does not know."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    reasons = [line for line in lines if not line.startswith("To facilitate")]
    return (reasons or [type(error).__name__])[-1].strip()


def _cannot_run(name: str, error: Exception) -> BundleError:
    return BundleError(f"{name}: OpenVINO cannot run it ({_last_line(error)}); export it again")


class Network:
    """See edge.devices.inference.Network."""

    def __init__(self, onnx: bytes, name: str, shape: tuple[int, ...], classes: int) -> None:
        self._name, self._shape = name, shape
        try:
            check_self_contained(onnx)
        except BundleError as error:
            raise BundleError(f"{name}: {error}") from None
        try:
            model = read_onnx(onnx)
            if [o.any_name for o in model.inputs + model.outputs] != [INPUT, OUTPUT]:
                raise BundleError(f"{name}: needs one input {INPUT!r} and one output {OUTPUT!r}")
            model.reshape({INPUT: shape})
            output, expected = model.output(0), (shape[0], classes)
            # a size that depends on the values of the input is dynamic
            if output.partial_shape.is_dynamic or tuple(output.shape) != expected:
                raise BundleError(
                    f"{name}: gives {output.partial_shape}, the manifest says {expected}"
                )
            if output.element_type != openvino.Type.f32:
                raise BundleError(f"{name}: gives {output.element_type}, not float32")
            self._compiled: openvino.CompiledModel | None = _core().compile_model(
                model,
                "CPU",
                {
                    "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_NUM_THREADS": 1,
                    # with pinning all networks share one core: a fifth fewer frames a second
                    "ENABLE_CPU_PINNING": False,
                    # float layers stay float32, so that scores are the same on every machine
                    "INFERENCE_PRECISION_HINT": "f32",
                }
                # computes Q/DQ literally: slower, but correct
                | ({"LP_TRANSFORMS_MODE": False} if _int8_saturates() else {}),
            )
        except BundleError:
            raise
        except Exception as error:  # the reader of ONNX has exceptions of its own
            raise BundleError(f"{name}: OpenVINO cannot load it ({_last_line(error)})") from None

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(1, channels, H, W) -> (1, C) logits, synchronously. Raises BundleError if it fails."""
        try:
            return self._compiled({INPUT: batch})[OUTPUT]  # type: ignore[misc]
        except RuntimeError as error:
            raise _cannot_run(self._name, error) from None

    def open_request(self) -> Request:
        assert self._compiled is not None
        return Request(self._compiled.create_infer_request(), self._shape, self._name)

    def close(self) -> None:
        self._compiled = None


class Request:
    """See edge.devices.inference.Request. The input is filled in place: a stack is 4 MB, and
    allocating and copying it took as long as computing it. name: of the network, for messages."""

    def __init__(self, request: openvino.InferRequest, shape: tuple[int, ...], name: str) -> None:
        batch = np.zeros(shape, np.float32)
        self._name = name
        self._request, self._input = request, batch[0]
        request.set_input_tensor(openvino.Tensor(batch, shared_memory=True))

    @property
    def input(self) -> NDArray[np.float32]:
        self._settle()
        return self._input

    def start(self) -> None:
        self._request.start_async()

    def wait(self) -> tuple[NDArray[np.float32], float]:
        """Raises BundleError if the network fails, such as with shapes that do not fit."""
        self._settle()
        logits = np.array(self._request.get_output_tensor(0).data[0])
        return logits, float(self._request.latency)

    def _settle(self) -> None:
        try:
            self._request.wait()
        except RuntimeError as error:
            raise _cannot_run(self._name, error) from None
