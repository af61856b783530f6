"""Where a bundle runs. A device is chosen once; what is above it does not know which one it is.

A device is motion and inference side by side:

cpu    edge.motion, and a back end of edge.devices.inference: OpenVINO
cuda   CUDA kernels through pycuda, and TensorRT
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Bundle
from edge.bundle.network import Precision
from edge.errors import DeviceError
from edge.motion.quantise import FlowBytes
from edge.spec import Spec
from edge.video.frames import Frame

logger = logging.getLogger(__name__)

NAMES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, slots=True)
class Inference:
    """What a device has to say about one frame. logits: (C,) by stream, as the networks give them;
    what follows from them is decided above. stages_ms: milliseconds of each stage of the work,
    those of the networks under the names of their streams."""

    logits: Mapping[str, NDArray[np.float32]]
    stages_ms: dict[str, float]


class InferenceFuture(Protocol):
    """Work on one frame that may still be under way."""

    def result(self) -> Inference | None:
        """Wait for it. None while too few frames are known, or where none was asked for."""

    def flows(self) -> Mapping[Spec, FlowBytes]:
        """Wait for the flows that led to the frame, (2, H, W) uint8 each, by the spec of their
        method. Empty where there are none, or where nobody wanted flows."""


class SourceContext(Protocol):
    """The frames of one source on a device: what has to be remembered of them lies there.

    depth: how many frames may be under way, the one just submitted included.
    """

    depth: int

    def submit(self, frame: Frame, infer: bool) -> InferenceFuture:
        """Take the next frame: measure its flow, and start all networks if `infer`.

        The frame's planes are not read after this returns. Times must rise from frame to frame.
        """

    def clear(self) -> None:
        """Forget all earlier frames: there was a gap, and no flow leads across it."""

    def close(self) -> None:
        """The source is gone; its memory is for the next."""


class Device(Protocol):
    """A bundle on a device: one set of networks for however many sources. Used from one thread.

    precisions: what each network computes in, by stream.
    """

    description: str
    precisions: Mapping[str, Precision]

    def open_context(self) -> SourceContext:
        """Room for one more source. Their frames may be submitted in any order; the result of a
        frame is there until `depth` more frames of its source, on the CPU of any, are submitted.
        """

    def logits(self, stream: str, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """One network alone, at once: (channels, H, W) -> logits (C,)."""

    def close(self) -> None:
        """Give the device back."""


def open_device(
    name: str,
    bundle: Bundle,
    flow_wanted: bool = False,
    precision: Precision | None = None,
) -> Device:
    """Load a bundle on the device of this name and run everything once, so that nothing is
    compiled during the first frame.

    `auto` is cuda where there is a GPU that can be used, else cpu. flow_wanted: flows can be asked
    for. precision: of all networks; None is INT8, on a GPU that of the last `twostream build`.
    Raises DeviceError when the device does not exist or cannot run the bundle.
    """
    if name not in NAMES:
        raise DeviceError(f"device {name!r} does not exist; devices: {', '.join(NAMES)}")
    from edge.devices.cuda.driver import NO_DRIVER, gpu_fault

    fault: str | None = None
    if name == "cuda" or (name == "auto" and gpu_fault() != NO_DRIVER):
        from edge.devices.cuda.device import open_cuda

        try:
            return open_cuda(bundle, flow_wanted, precision)
        except DeviceError as error:
            if name == "cuda":
                raise
            fault = str(error)
            logger.warning("running on the CPU, for the GPU cannot be used: %s", fault)
    from edge.devices.cpu import CPUDevice

    try:
        from edge.devices import openvino as back_end
    except DeviceError as error:
        raise DeviceError(str(error) if fault is None else f"{fault}; {error}") from None
    return CPUDevice(bundle, back_end, precision or "int8")
