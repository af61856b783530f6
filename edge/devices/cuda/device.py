"""The CUDA device: kernels through pycuda, networks in TensorRT. From the frame to the logits
everything stays on the GPU.

Each source has two CUDA streams. `main` uploads each frame, computes its flow and runs the networks
with motion. Meanwhile `side` converts the frame to RGB and runs the networks without motion. With
one network of each kind:

    main   upload ─ luma ─┬─ pyramid ─ flow ─ quantise ─ stack ─ network ─ download ─┬─ done
                       resized                                                     side
    side                  └─ rgb ─ network ─ download ───────────────────────────────┘

`side` waits for the event `resized`, and at the end of each frame `main` waits for the event
`side`. So no buffer is overwritten by a frame while the frame before still reads it. The host only
waits when it reuses a slot (pinned memory and events), two frames later.

What lies between `upload` and `done` is the same for all frames in a slot: what differs (the scale
of the flow and its place in the ring) is uploaded with the frame. So it becomes a CUDA graph, which
the host launches by one call: see edge/devices/cuda/graph.py.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Bundle, Manifest
from edge.bundle.network import Precision
from edge.devices.cuda.driver import Driver, find_gpu, load_driver
from edge.devices.cuda.kernels.flow_plan import FLOW_PLANS
from edge.devices.cuda.network import Network
from edge.devices.cuda.shared import SharedResources
from edge.devices.cuda.source_context import CUDASourceContext
from edge.devices.inference import Way
from edge.devices.tensorrt.builder import BuildConfig
from edge.devices.tensorrt.get_or_build import (
    engine_folder,
    get_or_build_engine,
    planted_engines,
)
from edge.devices.tensorrt.tuning import read_tuning
from edge.devices.tensorrt.version import load_tensorrt
from edge.errors import DeviceError
from edge.inputs.builder import state_of
from edge.inputs.flow_stack import FlowInput
from edge.inputs.rgb import RGBInput
from edge.video.frames import Frame

logger = logging.getLogger(__name__)

DEFAULT = BuildConfig(precision="int8", dla_core=None, workspace_mb=None)
AS_BUILT = Way("the engines of the last build", None)
FP16, FP32 = Way("fp16", "fp16"), Way("fp32", "fp32")  # building these takes minutes


class CUDADevice:
    """See edge.devices.Device. cleanup: what `close` calls, last added first."""

    def __init__(
        self, bundle: Bundle, driver: Driver, networks: Mapping[str, Network], flow_wanted: bool
    ) -> None:
        self.manifest, self.cleanup = bundle.manifest, ExitStack()
        self._shared = SharedResources(bundle.manifest, driver, networks, flow_wanted)
        # Closed contexts, reused for the next sources: GPU memory is only freed with the device.
        self._closed_contexts: list[CUDASourceContext] = []
        self.precisions: Mapping[str, Precision] = {
            stream: network.precision for stream, network in networks.items()
        }
        self.description = f"cuda: {driver.gpu.name}"

    def open_context(self) -> CUDASourceContext:
        with self._shared.driver:
            if self._closed_contexts:
                return self._closed_contexts.pop()
            return CUDASourceContext(self._shared, self._closed_contexts)

    def logits(
        self, stream: str, inputs: NDArray[Any], times_s: Sequence[float]
    ) -> NDArray[np.float32]:
        with self._shared.driver:
            network = self._shared.networks[stream]
            return np.stack([network.infer(values[None])[0] for values in inputs])

    def close(self) -> None:
        if self._shared.driver.closed:
            return
        with self._shared.driver:
            self.cleanup.close()


def ways(precision: Precision | None) -> tuple[Way, ...]:
    """See edge.devices.ways."""
    return (AS_BUILT, FP16, FP32) if precision is None else (Way(precision, precision),)


def identity(bundle: Bundle) -> str:
    """See edge.devices.identity. Engines are told apart by when they were written."""
    gpu, cuda = find_gpu()
    there = sorted(
        f"{path.name} {path.stat().st_mtime_ns}"
        for pattern in ("*.plan", "tuning-*.json")
        for path in engine_folder(bundle).glob(pattern)
    )
    engines = hashlib.sha256("\n".join(there).encode()).hexdigest()[:16]
    return (
        f"TensorRT {load_tensorrt().__version__}, CUDA {cuda}, {gpu.name}, sm "
        f"{gpu.compute_capability}, {gpu.multiprocessors} multiprocessors, engines {engines}"
    )


def open_cuda(
    bundle: Bundle,
    flow_wanted: bool,
    precision: Precision | None,
    graphs: bool = True,
    built: Callable[[], object] = lambda: None,
) -> CUDADevice:
    """Load a bundle on the first GPU.

    graphs: whether the work of a frame becomes a CUDA graph, or is launched kernel by kernel.
    built: called when all engines are there, which is what takes long, and before anything runs.

    precision: of all engines; None is that of the last `twostream build`, or INT8 if there was
    none. Engines that do not exist yet are built, which takes minutes. Raises DeviceError if the
    GPU, pycuda or TensorRT cannot be used, BundleError if TensorRT cannot read a network.
    """
    check_kernels(bundle.manifest)
    driver = load_driver(graphs)
    with driver, ExitStack() as stack:
        stack.callback(driver.close)
        trt = load_tensorrt()
        if warning := planted_engines(bundle):
            logger.warning("%s", warning)
        streams = bundle.manifest.streams
        tuning = read_tuning(engine_folder(bundle), driver.gpu, trt.__version__, streams) or {}
        networks = {}
        for stream in streams:
            config = tuning.get(stream, DEFAULT)
            if precision is not None:
                config = replace(config, precision=precision)
            engine = get_or_build_engine(trt, bundle, stream, driver.gpu, config)
            networks[stream] = Network(trt, bundle, driver, engine)
            stack.callback(networks[stream].close)
        stack.callback(driver.synchronize)  # called first: no network is closed while it runs
        built()
        device = CUDADevice(bundle, driver, networks, flow_wanted)
        warm_up(device)
        precisions = "/".join(device.precisions.values())
        device.description += f", TensorRT {trt.__version__} {precisions}, {driver.kernels}"
        device.cleanup = stack.pop_all()
    return device


def check_kernels(manifest: Manifest) -> None:
    """Raises DeviceError if a stream has an input or a motion method without CUDA kernels."""
    for name, stream in manifest.streams.items():
        spec = stream.input
        if not isinstance(spec, (RGBInput, FlowInput)):
            missing = "memory for the state" if state_of(spec) else "kernels for the input"
            raise DeviceError(
                f"device cuda: has no {missing} of {name} ({spec.kind}); use --device cpu"
            )
        method = None if spec.motion is None else spec.motion.method  # type: ignore[attr-defined]
        if method is not None and method not in FLOW_PLANS:
            raise DeviceError(
                f"device cuda: has no kernels for the motion of {name} ({method}); use --device cpu"
            )


def warm_up(device: CUDADevice) -> None:
    """Run all kernels and networks once, so that nothing is loaded during the first frame."""
    context = device.open_context()
    height, width = device.manifest.geometry.size_hw
    for index in range(device.manifest.history + 2):
        noise = np.random.default_rng(index).integers(0, 256, (height, width), np.uint8)
        chroma = noise[::2, : width // 2]
        context.submit(Frame(noise, chroma, chroma, index * 0.04, index), infer=True).result()
    context.close()
