"""The devices that a bundle runs on, behind one interface.

A device has a motion and an inference back end:

cpu    edge.motion, and a back end of edge.devices.inference: OpenVINO
cuda   CUDA kernels through pycuda, and TensorRT

Each has ways of computing the networks (INT8, float), of which some may be wrong on a processor.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.devices.inference import InferenceBackEnd, Way
from edge.errors import DeviceError

if TYPE_CHECKING:  # a process that only computes networks needs none of these
    from edge.bundle.manifest import Bundle
    from edge.bundle.network import Precision
    from edge.motion.quantise import FlowBytes
    from edge.spec import Spec
    from edge.video.frames import Frame

logger = logging.getLogger(__name__)

NAMES = ("auto", "cpu", "cuda")
DeviceName = Literal["cpu", "cuda"]
# Takes one of a device's ways. Raises DeviceError if none can be used.
Choose = Callable[[DeviceName, "Bundle", Sequence[Way]], Way]


@dataclass(frozen=True, slots=True)
class Inference:
    """A device's result for one frame. logits: (C,) by stream, straight from the networks.
    stages_ms: milliseconds of each stage; the networks have the names of their streams."""

    logits: Mapping[str, NDArray[np.float32]]
    stages_ms: dict[str, float]


class InferenceFuture(Protocol):
    """The result of one frame, which may still be in progress."""

    def result(self) -> Inference | None:
        """Wait for the result. None if there were too few frames before, or it was submitted
        without inference."""

    def flows(self) -> Mapping[Spec, FlowBytes]:
        """Wait for the flows from the previous frame, (2, H, W) uint8 each, by the spec of their
        method. Empty if there are none, or the device was opened without `flow_wanted`."""


class SourceContext(Protocol):
    """The state of one source on a device.

    depth: how many frames may be in flight, including the one just submitted.
    """

    depth: int

    def submit(self, frame: Frame, infer: bool) -> InferenceFuture:
        """Submit the next frame: compute its flow, and start all networks if `infer`.

        The frame's planes are not read after this returns. Times must rise.
        """

    def clear(self) -> None:
        """Forget all earlier frames, after a gap, across which no flow is computed."""

    def inputs(self) -> Mapping[str, NDArray[np.float32]]:
        """Wait for what the networks saw the last time that they ran, normalised, in the shapes of
        `edge.inputs.builder.input_shape`, by stream. Before another frame of any source."""

    def close(self) -> None:
        """Release the source's memory for another one."""


class Device(Protocol):
    """A bundle on a device: one set of networks for any number of sources. Used from one thread.

    precisions: of each network, by stream.
    """

    description: str
    precisions: Mapping[str, Precision]

    def open_context(self) -> SourceContext:
        """Add a source. Frames of different sources may be submitted in any order. The result of a
        frame is valid until `depth` more frames of its source (on the CPU: of any) are submitted.
        """

    def logits(
        self, stream: str, inputs: NDArray[Any], times_s: Sequence[float]
    ) -> NDArray[np.float32]:
        """Run one network alone and wait: the inputs (N, channels, H, W) of one source at these
        stream times, as `edge.inputs.builder.fill_input` gives them -> logits (N, C)."""

    def close(self) -> None:
        """Release the device."""


def take_first(name: DeviceName, bundle: Bundle, ways: Sequence[Way]) -> Way:
    """A Choose that believes the device."""
    return ways[0]


def take_literal(name: DeviceName, bundle: Bundle, ways: Sequence[Way]) -> Way:
    """A Choose of what depends the least on the processor: the last way in the precision of the
    first one, which on the CPU computes what the file says, as it says it."""
    return [way for way in ways if way.precision == ways[0].precision][-1]


def open_device(
    name: str,
    bundle: Bundle,
    flow_wanted: bool = False,
    precision: Precision | None = None,
    choose: Choose = take_first,
    graphs: bool = True,
) -> Device:
    """Load a bundle on a device and run everything once, so that nothing is compiled during the
    first frame.

    name: cpu, cuda or auto, which is cuda if there is a usable GPU, else cpu. flow_wanted: whether
    `flows` is needed. precision: of all networks; None is INT8, on a GPU the precision of the last
    `twostream build`, unless `choose` takes another. graphs: whether a GPU's work for a frame is
    launched as a CUDA graph. Raises DeviceError if the device does not
    exist or cannot run the bundle.
    """
    if name not in NAMES:
        raise DeviceError(f"device {name!r} does not exist; devices: {', '.join(NAMES)}")
    from edge.devices.cuda.driver import NO_DRIVER, gpu_fault

    def open_named(name: DeviceName) -> Device:
        way = choose(name, bundle, ways(name, precision))
        return open_way(name, bundle, flow_wanted, way, graphs)

    fault: str | None = None
    if name == "cuda" or (name == "auto" and gpu_fault() != NO_DRIVER):
        try:
            return open_named("cuda")
        except DeviceError as error:
            if name == "cuda":
                raise
            fault = str(error)
            logger.warning("running on the CPU, because the GPU cannot be used: %s", fault)
    try:
        return open_named("cpu")
    except DeviceError as error:
        raise DeviceError(str(error) if fault is None else f"{fault}; {error}") from None


def ways(name: DeviceName, precision: Precision | None) -> tuple[Way, ...]:
    """The ways of a device to compute networks in `precision`, or in any where that is None, in the
    order of preference. Raises DeviceError where its library is not installed."""
    if name == "cpu":
        return back_end().ways(precision)
    from edge.devices.cuda import device

    return device.ways(precision)


def open_way(
    name: DeviceName, bundle: Bundle, flow_wanted: bool, way: Way, graphs: bool = True
) -> Device:
    """Open a device that computes networks in one of its ways. Raises DeviceError."""
    if name == "cuda":
        from edge.devices.cuda.device import open_cuda

        return open_cuda(bundle, flow_wanted, way.precision, graphs)
    from edge.devices.cpu import CPUDevice

    return CPUDevice(bundle, back_end(), way)


def identity(name: DeviceName, bundle: Bundle) -> str:
    """What computes: processor or GPU, library and version, engines. The same text, the same
    results. Raises DeviceError if the device cannot be used."""
    if name == "cpu":
        import cv2

        from edge.devices.processor import processor

        networks = back_end()
        libraries = [f"{each.__name__} {each.__version__}" for each in (cv2, np)]
        libraries.append(f"numba {version('numba')}")
        with suppress(PackageNotFoundError):  # without it there are no float networks
            libraries.append(f"onnx {version('onnx')}")
        return ", ".join([networks.describe(networks.ways(None)[0]), *libraries, processor()])
    from edge.devices.cuda import device

    return device.identity(bundle)


def back_end() -> InferenceBackEnd:
    """Of the CPU device. Raises DeviceError if its library is not installed."""
    from edge.devices import openvino as back_end

    return back_end
