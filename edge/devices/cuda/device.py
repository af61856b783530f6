"""The CUDA device: kernels through pycuda, networks in TensorRT, all on the GPU from the frame to
the logits.

Two CUDA streams. One takes every frame from upload to flow, and runs the networks that see motion;
the other makes RGB of it and runs those networks meanwhile. With one network of each kind:

    main   upload ─ luma ─ pyramid ─ flow ─ quantise ─ stack ─ network ─ download ─┬─ done
                      └ seen                                                       └ side
    side                └─ rgb ─ network ─ download ────────────────────────────────┘

`main` waits for `side` at the end of each frame, and `side` waits for `seen`, so no buffer of a
frame is written while the one before it is still read. The host waits only where a frame's slot
(its pinned memory) is needed again, two frames later.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Bundle, Manifest
from edge.bundle.network import Precision
from edge.devices.cuda.driver import Driver, open_driver
from edge.devices.cuda.kernels.flow_plan import FLOW_PLANS
from edge.devices.cuda.network import Network
from edge.devices.cuda.shared import Shared
from edge.devices.cuda.source_context import CUDASourceContext
from edge.devices.tensorrt.builder import BuildConfig
from edge.devices.tensorrt.get_or_build import (
    engine_folder,
    get_or_build_engine,
    planted_engines,
)
from edge.devices.tensorrt.tuning import read_tuning
from edge.devices.tensorrt.version import load_tensorrt
from edge.errors import DeviceError
from edge.inputs.flow_stack import FlowInput
from edge.inputs.rgb import RGBInput
from edge.video.frames import Frame

logger = logging.getLogger(__name__)

DEFAULT = BuildConfig(precision="int8", dla_core=None, workspace_mb=None)


class CUDADevice:
    """See edge.devices.Device. resources: what `close` gives back, in turn."""

    def __init__(
        self, bundle: Bundle, driver: Driver, networks: Mapping[str, Network], flow_wanted: bool
    ) -> None:
        self.manifest, self.resources = bundle.manifest, ExitStack()
        self._shared = Shared(bundle.manifest, driver, networks, flow_wanted)
        # Contexts that were closed, for the next cameras: memory on the GPU is given back with the
        # device alone.
        self._spare: list[CUDASourceContext] = []
        self.precisions: Mapping[str, Precision] = {
            stream: network.precision for stream, network in networks.items()
        }
        self.description = f"cuda: {driver.gpu.name}"

    def open_context(self) -> CUDASourceContext:
        return self._spare.pop() if self._spare else CUDASourceContext(self._shared, self._spare)

    def logits(self, stream: str, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._shared.networks[stream].infer(tensor[None])[0]

    def close(self) -> None:
        self.resources.close()


def open_cuda(bundle: Bundle, flow_wanted: bool, precision: Precision | None) -> CUDADevice:
    """The bundle on the first GPU, with engines of `precision`, or else those of the last
    `twostream build`, or INT8 ones; what is not built yet is built now. Raises DeviceError if
    that cannot be."""
    check_kernels(bundle.manifest)
    with ExitStack() as stack:
        driver = stack.enter_context(open_driver())
        trt = load_tensorrt()
        if planted := planted_engines(bundle):
            logger.warning("%s", planted)
        streams = bundle.manifest.streams
        tuning = read_tuning(engine_folder(bundle), driver.gpu, trt.__version__, streams) or {}
        networks = {}
        for stream in streams:
            config = tuning.get(stream, DEFAULT)
            if precision is not None:
                config = replace(config, precision=precision)
            ready = get_or_build_engine(trt, bundle, stream, driver.gpu, config)
            networks[stream] = Network(trt, bundle, driver, ready)
            stack.callback(networks[stream].close)
        stack.callback(driver.settle)  # comes first: no network goes while it still runs
        device = CUDADevice(bundle, driver, networks, flow_wanted)
        warm_up(device)
        kinds = "/".join(device.precisions.values())
        device.description += f", TensorRT {trt.__version__} {kinds}"
        for note in driver.notes:
            logger.warning("%s", note)
        device.resources = stack.pop_all()
    return device


def check_kernels(manifest: Manifest) -> None:
    """Raises DeviceError if no kernel can build a stream's input."""
    for name, stream in manifest.streams.items():
        spec = stream.input
        if not isinstance(spec, (RGBInput, FlowInput)):
            raise DeviceError(
                f"device cuda: has no kernels for the input of {name} ({spec.kind}); use --device "
                "cpu"
            )
        method = None if spec.motion is None else spec.motion.method  # type: ignore[attr-defined]
        if method is not None and method not in FLOW_PLANS:
            raise DeviceError(
                f"device cuda: has no kernels for the motion of {name} ({method}); use --device cpu"
            )


def warm_up(device: CUDADevice) -> None:
    """Run everything often enough that nothing is loaded or tuned during the first frame."""
    context = device.open_context()
    height, width = device.manifest.geometry.size_hw
    for index in range(device.manifest.history + 2):
        noise = np.random.default_rng(index).integers(0, 256, (height, width), np.uint8)
        chroma = noise[::2, : width // 2]
        context.submit(Frame(noise, chroma, chroma, index * 0.04, index), infer=True).result()
    context.close()
