"""An engine that runs: the same few calls from TensorRT 8.5 to 11.4."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from edge.bundle.network import INPUT, OUTPUT
from edge.devices.tensorrt.version import no_gpu, open_log, without_collection
from edge.errors import BundleError, DeviceError


def open_engine(trt: ModuleType, plan: bytes, log: Any, dla_core: int | None) -> Any:
    """A trt.ICudaEngine, or None where TensorRT does not take the plan; `log` says why.

    Raises DeviceError if TensorRT finds no GPU that it can use.
    """
    try:
        runtime = trt.Runtime(log)
    except TypeError:  # the binding's answer to a null pointer
        raise no_gpu(trt, log) from None
    if dla_core is not None:
        runtime.DLA_core = dla_core
    return runtime.deserialize_cuda_engine(plan)


class Engine:
    """One network on the GPU (or the DLA), with fixed shapes. Used from one thread, with the
    CUDA context of the caller.

    name: of the ONNX file, for messages. shape: of the input, (1, channels, H, W). classes: C of
    the output's (1, C). dla_core: the one the engine was built for; None for the GPU.
    Raises DeviceError if TensorRT does not take the plan, BundleError where the network is not
    the one that the manifest describes.
    """

    @without_collection()
    def __init__(
        self,
        trt: ModuleType,
        plan: bytes,
        name: str,
        shape: tuple[int, ...],
        classes: int,
        dla_core: int | None = None,
    ) -> None:
        self._name = name
        self._log = open_log(trt)
        self._engine = open_engine(trt, plan, self._log, dla_core)
        if self._engine is None:
            raise DeviceError(
                f"{name}: TensorRT {trt.__version__} does not take this engine; run: twostream "
                f"build{self._log.last_errors()}"
            )
        self._check(trt, shape, classes)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise DeviceError(
                f"{name}: no memory left on the device to run the engine; stop other programs"
                f"{self._log.last_errors()}"
            )

    def _check(self, trt: ModuleType, shape: tuple[int, ...], classes: int) -> None:
        engine = self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        modes = {name: engine.get_tensor_mode(name) for name in names}
        if modes != {INPUT: trt.TensorIOMode.INPUT, OUTPUT: trt.TensorIOMode.OUTPUT}:
            raise BundleError(
                f"{self._name}: has {', '.join(names)}; needs one input {INPUT!r} and one output "
                f"{OUTPUT!r}"
            )
        for name, expected in ((INPUT, shape), (OUTPUT, (shape[0], classes))):
            found = tuple(engine.get_tensor_shape(name))
            if found != tuple(expected):
                raise BundleError(
                    f"{self._name}: {name} is {found}, the manifest says {tuple(expected)}"
                )
            kind = engine.get_tensor_dtype(name)
            if kind != trt.DataType.FLOAT:
                raise BundleError(f"{self._name}: {name} is {kind}, not float32; export it again")

    def bind(self, input_address: int, output_address: int) -> None:
        """Where the input is read and the logits are written from now on, float32 both.

        Addresses are the device's, and stay valid until the work that was enqueued is done.
        """
        for name, address in ((INPUT, input_address), (OUTPUT, output_address)):
            if not self._context.set_tensor_address(name, address):
                raise DeviceError(
                    f"{self._name}: TensorRT does not take the address of {name}"
                    f"{self._log.last_errors()}"
                )

    def enqueue(self, stream_handle: int) -> None:
        """Start one inference on a CUDA stream and return. Raises DeviceError if it fails."""
        if not self._context.execute_async_v3(stream_handle):
            raise DeviceError(
                f"{self._name}: TensorRT could not start an inference{self._log.last_errors()}"
            )

    def close(self) -> None:
        """Free it, the context before the engine that it belongs to."""
        self._context = None
        self._engine = None
