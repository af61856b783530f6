"""Runs an engine, with the calls that are the same from TensorRT 8.5 to 11.4."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from edge.bundle.tensor_names import INPUT, OUTPUT
from edge.devices.tensorrt.version import begin_log, no_gpu, without_collection
from edge.errors import BundleError, DeviceError


def open_engine(trt: ModuleType, plan: bytes, log: Any, dla_core: int | None) -> Any:
    """Load a plan as a trt.ICudaEngine; None if TensorRT cannot, with the reason in `log`.

    Raises DeviceError if TensorRT finds no usable GPU.
    """
    try:
        runtime = trt.Runtime(log)
    except TypeError:  # what the binding raises for a null pointer
        raise no_gpu(trt, log) from None
    if dla_core is not None:
        runtime.DLA_core = dla_core
    return runtime.deserialize_cuda_engine(plan)


class Execution:
    """An engine with memory of its own to run in: several of one engine may run at once."""

    def __init__(self, context: Any, name: str, log: Any) -> None:
        self._context, self._name, self._log = context, name, log

    def enqueue(self, stream_handle: int) -> None:
        """Enqueue an inference on a CUDA stream. Raises DeviceError if that fails."""
        if not self._context.execute_async_v3(stream_handle):
            raise DeviceError(
                f"{self._name}: TensorRT could not start an inference{self._log.last_errors()}"
            )

    def close(self) -> None:
        self._context = None


class Engine:
    """One network on the GPU or the DLA, with fixed shapes. Used from one thread, in the CUDA
    context of the caller."""

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
        """name: of the ONNX file, for messages. shape: of the input, (1, channels, H, W). classes:
        C of the output (1, C). dla_core: that the engine was built for; None for the GPU.

        Raises DeviceError if TensorRT cannot load the plan, BundleError if the network does not
        match shape and classes.
        """
        self._name = name
        self._executions: list[Execution] = []
        self._log = begin_log(trt)
        self._engine = open_engine(trt, plan, self._log, dla_core)
        if self._engine is None:
            raise DeviceError(
                f"{name}: TensorRT {trt.__version__} cannot load this engine; run: twostream "
                f"build{self._log.last_errors()}"
            )
        self._check(trt, shape, classes)

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
            actual = tuple(engine.get_tensor_shape(name))
            if actual != tuple(expected):
                raise BundleError(
                    f"{self._name}: {name} is {actual}, the manifest says {tuple(expected)}"
                )
            dtype = engine.get_tensor_dtype(name)
            if dtype != trt.DataType.FLOAT:
                raise BundleError(f"{self._name}: {name} is {dtype}, not float32; export it again")

    @without_collection()
    def bind(self, input_address: int, output_address: int) -> Execution:
        """An execution with the GPU addresses of its input and logits, both float32. They must stay
        valid until all its inferences have finished. Raises DeviceError if memory is short."""
        context = self._engine.create_execution_context()
        if context is None:
            raise DeviceError(
                f"{self._name}: not enough memory on the device to run the engine; stop other "
                f"programs{self._log.last_errors()}"
            )
        for name, address in ((INPUT, input_address), (OUTPUT, output_address)):
            if not context.set_tensor_address(name, address):
                raise DeviceError(
                    f"{self._name}: TensorRT does not accept the address of {name}"
                    f"{self._log.last_errors()}"
                )
        self._executions.append(Execution(context, self._name, self._log))
        return self._executions[-1]

    def close(self) -> None:
        """Release all executions, then the engine. None may be running."""
        for execution in self._executions:
            execution.close()
        self._engine = None
