"""OpenVINO as an edge.devices.inference.InferenceBackEnd: the only file that imports it."""

from __future__ import annotations

import io
import platform
import sys
from contextlib import suppress
from dataclasses import replace
from functools import cache, cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.float_onnx import float_onnx
from edge.bundle.self_contained import check_self_contained
from edge.bundle.tensor_names import INPUT, OUTPUT, next_state
from edge.code_cache import CodeCache, key_of
from edge.devices.inference import NetworkFile, State, Way
from edge.devices.processor import processor
from edge.errors import BundleError, DeviceError
from edge.installation import install_line

if TYPE_CHECKING:
    from edge.bundle.network import Precision

# OpenVINO reports its use to Google Analytics if this module is installed; prevent that.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
# It takes its converter of other formats along if it can, a tenth of a second that nobody needs.
sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]
try:
    import openvino
    from openvino import opset13
    from openvino.frontend import FrontEndManager
    from openvino.passes import ConstantFolding, Manager
except ImportError as error:
    raise DeviceError(
        f"device cpu: OpenVINO is not installed; run: {install_line('pc')}"
    ) from error


_CACHE = CodeCache("networks", 16)  # the two of the demo bundle are 8 MB
INT8 = Way("int8", "int8")
FP32 = Way("fp32", "fp32")
FP16 = Way("fp16", "fp16")
# Q/DQ computed as the file says, in float, without the transformations that make INT8 kernels of
# it: right on every processor tried, but slower than float.
LITERAL = Way("int8 in float arithmetic", "int8")
_SETTINGS = {
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_NUM_THREADS": 1,
    # with pinning all networks share one core: a fifth fewer frames a second
    "ENABLE_CPU_PINNING": False,
    # float layers stay float32, so that scores are the same on every machine
    "INFERENCE_PRECISION_HINT": "f32",
}


def ways(precision: Precision | None) -> tuple[Way, ...]:
    """See InferenceBackEnd.

    INT8 kernels are the fastest, but x86 without VNNI adds products of bytes in 16 bits, where they
    saturate, ARM64 without the dot product dies of an illegal instruction, and with SVE2 it gave
    garbage under emulation (OpenVINO 2026.4). onnxruntime's INT8 kernels are right, but here they
    take 24 ms for the demo bundle's RGB network, where FP32 takes 9 and INT8 4: no way for them.
    """
    if precision is None:
        return INT8, FP32, LITERAL
    return tuple(way for way in (INT8, LITERAL, FP32, FP16) if way.precision == precision)


def open_network(file: NetworkFile, way: Way) -> Network:
    """See InferenceBackEnd. What was compiled on this machine before is not compiled again."""
    depends_on = (openvino.__version__, sorted(_SETTINGS.items()), processor())
    digest = sha256(file.onnx).hexdigest()
    tensors = [file.shape, file.classes, sorted(file.state.items()), file.levels]
    key = key_of([digest, *tensors, way.name, *depends_on])
    if (blob := _CACHE.find(key)) is not None:
        # RuntimeError: it does not like what it has exported itself
        with suppress(RuntimeError):
            return Network(_core().import_model(blob, "CPU", _settings(way)), file)
    network = compile_network(file, way)
    _CACHE.keep(key, network.export())
    return network


def compile_network(file: NetworkFile, way: Way = INT8) -> Network:
    """Like `open_network`, but nothing is kept."""
    return Network(_compile(file, way, _settings(way)), file)


def open_stateful(file: NetworkFile) -> Network:
    """A small float network with state. Raises BundleError if it cannot be loaded or its tensors
    are not those that the manifest says."""
    # On one thread OpenVINO 2026.4 dies of SIGSEGV while it makes "snippets" (kernels of several
    # elementwise operators) of a GRU and attention.
    settings = _settings(LITERAL) | {"SNIPPETS_MODE": "DISABLE"}
    return Network(_compile(file, LITERAL, settings), file)


def _compile(file: NetworkFile, way: Way, settings: dict[str, Any]) -> openvino.CompiledModel:
    try:
        onnx = file.onnx
        if way.precision in ("fp16", "fp32"):
            onnx = float_onnx(onnx, way.precision)
        check_self_contained(onnx)
        model = read_onnx(onnx)
        _check_model(model, file)
        if file.levels is not None:
            model = _taking_bytes(model, file.levels)
        if way == LITERAL:
            # or else float32 times bytes is a kernel of its own, which x86 without AVX-512 lacks
            passes = Manager()
            passes.register_pass(ConstantFolding())
            passes.run_passes(model)
        return _core().compile_model(model, "CPU", settings)
    except BundleError as error:
        raise BundleError(f"{file.name}: {error}") from None
    except DeviceError:
        raise
    except Exception as error:  # the reader of ONNX has exceptions of its own
        raise BundleError(f"{file.name}: OpenVINO cannot load it ({_last_line(error)})") from None


def _settings(way: Way) -> dict[str, Any]:
    return _SETTINGS | ({"LP_TRANSFORMS_MODE": False} if way == LITERAL else {})


def _check_model(model: openvino.Model, file: NetworkFile) -> None:
    """Give the inputs their shapes. Raises BundleError if the outputs do not fit."""
    inputs = {INPUT: file.shape} | dict(file.state)
    outputs: dict[str, tuple[int, ...]] = {OUTPUT: (file.shape[0], file.classes)}
    outputs |= {next_state(name): shape for name, shape in file.state.items()}
    if sorted(o.any_name for o in model.inputs) != sorted(inputs) or sorted(
        o.any_name for o in model.outputs
    ) != sorted(outputs):
        if not file.state:
            raise BundleError(f"needs one input {INPUT!r} and one output {OUTPUT!r}")
        raise BundleError(f"needs the inputs {', '.join(inputs)} and outputs {', '.join(outputs)}")
    model.reshape(inputs)
    for name, expected in outputs.items():
        output = model.output(name)
        # a size that depends on the values of the input is dynamic
        if output.partial_shape.is_dynamic or tuple(output.shape) != expected:
            raise BundleError(f"gives {output.partial_shape}, the manifest says {expected}")
        if output.element_type != openvino.Type.f32:
            raise BundleError(f"gives {output.element_type}, not float32")


def _taking_bytes(model: openvino.Model, levels: tuple[float, float]) -> openvino.Model:
    """The model with bytes as its input, which it normalises. OpenVINO does so within the kernel
    that quantises the input, which then reads a quarter of the bytes."""
    floats = model.input(INPUT).get_node()
    given = opset13.parameter(floats.output(0).shape, openvino.Type.u8, name=INPUT)
    given.output(0).set_names({INPUT})
    values = opset13.convert(given, openvino.Type.f32)
    values = opset13.multiply(values, np.float32(levels[0]))
    values = opset13.add(values, np.float32(levels[1]))
    for reader in floats.output(0).get_target_inputs():
        reader.replace_source_output(values.output(0))
    return openvino.Model(model.get_results(), [given])


def describe(way: Way) -> str:
    """See InferenceBackEnd."""
    text = f"OpenVINO {openvino.__version__.split('-')[0]}, {platform.machine()}"
    return text if way == INT8 else f"{text}, {way.name}"


@cache
def _core() -> openvino.Core:
    """One for the process: each core installs a signal stack and, when it is deleted, restores the
    previous one, which may be gone by then. The next Ctrl-C would crash (OpenVINO 2026.4)."""
    return openvino.Core()


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
    """See edge.devices.inference.Network and StatefulNetwork."""

    def __init__(self, compiled: openvino.CompiledModel, file: NetworkFile) -> None:
        self._file = replace(file, onnx=b"")  # it is compiled
        self._compiled: openvino.CompiledModel | None = compiled

    def export(self) -> bytes:
        """The compiled network, for OpenVINO's import_model on the same processor."""
        assert self._compiled is not None
        stream = io.BytesIO()
        self._compiled.export_model(stream)
        return stream.getvalue()

    def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """See edge.devices.inference.Network. Raises BundleError if it fails."""
        try:
            return self._compiled({INPUT: batch} | dict(self.first_state()))[OUTPUT]  # type: ignore[misc]
        except RuntimeError as error:
            raise _cannot_run(self._file.name, error) from None

    def open_request(self) -> Request:
        assert self._compiled is not None
        return Request(self._compiled.create_infer_request(), self._file)

    def first_state(self) -> State:
        return {name: np.zeros(shape, np.float32) for name, shape in self._file.state.items()}

    def step(self, values: NDArray[np.float32], state: State) -> tuple[NDArray[np.float32], State]:
        """Raises BundleError if the network fails."""
        self._alone.input[...] = values
        self._alone.set_state(state)
        self._alone.start()
        return self._alone.wait()[0], self._alone.next_state()

    @cached_property
    def _alone(self) -> Request:
        return self.open_request()

    def close(self) -> None:
        self._compiled = None


class Request:
    """See edge.devices.inference.Request. The input is filled in place: allocating and copying a
    stack took as long as computing it."""

    def __init__(self, request: openvino.InferRequest, file: NetworkFile) -> None:
        self._name, self._request = file.name, request
        self._input = self._bind(INPUT, np.zeros(file.shape, file.dtype))[0]
        self._state = {
            name: self._bind(name, np.zeros(shape, np.float32))
            for name, shape in file.state.items()
        }

    def _bind(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        self._request.set_tensor(name, openvino.Tensor(values, shared_memory=True))
        return values

    @property
    def input(self) -> NDArray[Any]:
        self._settle()
        return self._input

    def set_state(self, state: State) -> None:
        self._settle()
        for name, values in self._state.items():
            values[...] = state[name]

    def start(self) -> None:
        self._request.start_async()

    def wait(self) -> tuple[NDArray[np.float32], float]:
        """Raises BundleError if the network fails, such as with shapes that do not fit."""
        self._settle()
        logits = np.array(self._request.get_tensor(OUTPUT).data[0])
        return logits, float(self._request.latency)

    def next_state(self) -> State:
        """Raises BundleError if the network fails."""
        self._settle()
        return {
            name: np.array(self._request.get_tensor(next_state(name)).data) for name in self._state
        }

    def _settle(self) -> None:
        try:
            self._request.wait()
        except RuntimeError as error:
            raise _cannot_run(self._name, error) from None
