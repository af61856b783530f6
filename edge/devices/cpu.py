"""The CPU device: numba TV-L1, OpenVINO networks.

The networks run on OpenVINO's own threads while this thread goes on with flow: spatial starts
before the frame's flow is measured, temporal after it, and the caller may bring the next frames
while both still run.

What a frame of 320 x 240 costs, predicted from bytes (46 GB/s) and operations (925 G INT8 a second)
of one core, and measured on two Zen 5 cores (`twostream bench`):

                    predicted   measured, ms
    resize, RGB          0.02   0.38   OpenCV's area interpolation by 15 / 14 and 10 / 7 is scalar
    flow                 1.0    1.7    see edge.motion.tvl1
    stack                0.11   0.18   0.44 while each stack was allocated and OpenVINO copied it
    networks, alone      5.1    4.0    predicted with 35 % of the INT8 rate used; it is 45 %
    from label to label  3.5    4.2    half of all work: 7.9 ms of both cores, an eighth more than
                                       the parts take alone, for they share caches and memory. 4.9
                                       while OpenVINO pinned both networks' threads to one core and
                                       a file kept two frames in flight
"""

from __future__ import annotations

import io
import platform
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.bundle.float_onnx import float_onnx
from edge.bundle.manifest import Bundle, Manifest
from edge.bundle.network import INPUT, OUTPUT, STREAMS, Precision, Stream
from edge.bundle.self_contained import check_self_contained
from edge.decision.fusion import fuse, softmax
from edge.devices import Inference
from edge.errors import BundleError, DeviceError
from edge.motion.preprocessor import Preprocessor
from edge.motion.stack import FlowBytes, FlowRing, stack_tensor
from edge.video.frames import Frame, resize_to_model, rgb_tensor

# OpenVINO reports its use to Google Analytics where this module is installed. Cameras do not.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
try:
    import openvino
    from openvino.frontend import FrontEndManager
except ImportError as error:
    raise DeviceError(
        'device cpu: OpenVINO is not installed; run: pip install "twostream-edge[pc]"'
    ) from error

IN_FLIGHT = 4  # frames whose networks may be under way: both cores always have work


@cache
def _core() -> openvino.Core:
    """One for the process: each makes a signal stack of its own and, when it goes, puts back the
    one it found, which may be gone by then. The next Ctrl-C would crash (OpenVINO 2026.4)."""
    return openvino.Core()


@cache
def _int8_saturates() -> bool:
    """Whether this processor adds products of bytes in 16 bits. x86 without VNNI does: INT8
    networks then give other scores, by several tenths, and nothing says so.
    """
    if platform.machine() != "x86_64":
        return False
    flags = Path("/proc/cpuinfo").read_text()
    return not re.search(r"\b(avx512_vnni|avx_vnni|amx_int8)\b", flags)


def _read_onnx(onnx: bytes) -> openvino.Model:
    """By the reader of ONNX alone: left to choose, OpenVINO tries those of other formats, too, and
    a file can be of two at once."""
    reader = FrontEndManager().load_by_framework("onnx")
    return reader.convert(reader.load(io.BytesIO(onnx)))


def _last_line(error: Exception) -> str:
    return str(error).strip().split("\n")[-1]


def _cannot_run(name: str, error: Exception) -> BundleError:
    return BundleError(f"{name}: OpenVINO cannot run it ({_last_line(error)}); export it again")


class Network:
    """One ONNX file on OpenVINO, with a fixed input shape."""

    def __init__(self, onnx: bytes, name: str, shape: tuple[int, ...], classes: int) -> None:
        self._name = name
        try:
            check_self_contained(onnx)
        except BundleError as error:
            raise BundleError(f"{name}: {error}") from None
        try:
            model = _read_onnx(onnx)
            if [o.any_name for o in model.inputs + model.outputs] != [INPUT, OUTPUT]:
                raise BundleError(f"{name}: needs one input {INPUT!r} and one output {OUTPUT!r}")
            model.reshape({INPUT: shape})
            found, wanted = model.output(0), (shape[0], classes)
            # one whose size depends on what the input holds has no shape
            if found.partial_shape.is_dynamic or tuple(found.shape) != wanted:
                raise BundleError(
                    f"{name}: gives {found.partial_shape}, the manifest says {wanted}"
                )
            if found.element_type != openvino.Type.f32:
                raise BundleError(f"{name}: gives {found.element_type}, not float32")
            self._compiled = _core().compile_model(
                model,
                "CPU",
                {
                    "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_NUM_THREADS": 1,
                    # pinned, both networks' threads share a core: a fifth fewer frames a second
                    "ENABLE_CPU_PINNING": False,
                    # float layers stay float: a score is the same on every machine
                    "INFERENCE_PRECISION_HINT": "f32",
                }
                # Q/DQ is then computed as it is written: slower, and right
                | ({"LP_TRANSFORMS_MODE": False} if _int8_saturates() else {}),
            )
        except RuntimeError as error:
            raise BundleError(f"{name}: OpenVINO cannot load it ({_last_line(error)})") from None

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(1, channels, H, W) -> (1, C) logits, at once. Raises BundleError where that fails."""
        try:
            return self._compiled({INPUT: batch})[OUTPUT]
        except RuntimeError as error:
            raise _cannot_run(self._name, error) from None

    def request(self) -> Request:
        shape = tuple(self._compiled.input(0).shape)
        return Request(self._compiled.create_infer_request(), shape, self._name)


class Request:
    """One inference that runs beside the caller. Its input (channels, H, W) is made in place: a
    stack is 4 MB, and to allocate and copy one took as long as to compute it. name: of the network,
    for messages."""

    def __init__(self, request: openvino.InferRequest, shape: tuple[int, ...], name: str) -> None:
        batch = np.zeros(shape, np.float32)
        self._name = name
        self._request, self._input = request, batch[0]
        request.set_input_tensor(openvino.Tensor(batch, shared_memory=True))

    @property
    def input(self) -> NDArray[np.float32]:
        """To be filled, once the inference before has read it."""
        self._settle()
        return self._input

    def start(self) -> None:
        """Begin with what `input` holds."""
        self._request.start_async()

    def wait(self) -> tuple[NDArray[np.float32], float]:
        """The logits (C,) and the milliseconds that the network ran. Raises BundleError where it
        cannot be run: what a network does to its input may fit no shape."""
        self._settle()
        logits = np.array(self._request.get_output_tensor(0).data[0])
        return logits, float(self._request.latency)

    def _settle(self) -> None:
        try:
            self._request.wait()
        except RuntimeError as error:
            raise _cannot_run(self._name, error) from None


@dataclass(slots=True)
class _Started:
    spatial: Request
    temporal: Request
    manifest: Manifest
    measured: FlowBytes
    stages_ms: dict[str, float]

    def flow(self) -> FlowBytes:
        return self.measured

    def result(self) -> Inference:
        manifest = self.manifest
        logits, self.stages_ms["spatial"] = self.spatial.wait()
        spatial = softmax(logits, manifest.spatial.temperature)
        logits, self.stages_ms["temporal"] = self.temporal.wait()
        temporal = softmax(logits, manifest.temporal.temperature)
        fused = fuse(spatial, temporal, manifest.fusion)
        return Inference(spatial, temporal, fused, self.stages_ms)


@dataclass(slots=True)
class _Measured:
    """A frame of which no networks were asked for, or not yet."""

    measured: FlowBytes | None

    def flow(self) -> FlowBytes | None:
        return self.measured

    def result(self) -> None:
        return None


class CPUFeed:
    """See edge.devices.Feed."""

    depth = IN_FLIGHT

    def __init__(self, device: CPUDevice, preprocessor: Preprocessor) -> None:
        self._device, self._preprocessor = device, preprocessor
        self._ring = FlowRing(device.manifest.temporal.stack)

    def submit(self, frame: Frame, infer: bool) -> _Started | _Measured:
        manifest = self._device.manifest
        started = time.perf_counter()
        resized = resize_to_model(frame, manifest.geometry)
        infer = (
            infer and self._preprocessor.has_previous and len(self._ring) + 1 >= self._ring.length
        )
        spatial, temporal = self._device.requests(taken=infer)
        if infer:
            rgb_tensor(resized, manifest.spatial.normalisation, spatial.input)
            spatial.start()
        seen = time.perf_counter()
        flow = self._preprocessor.push_resized(resized).flow
        if flow is not None:
            self._ring.push(flow)
        moved = time.perf_counter()
        if not infer or flow is None:
            return _Measured(flow)
        section = manifest.temporal
        stack_tensor(self._ring.flows, section.layout, section.normalisation, temporal.input)
        temporal.start()
        ended = time.perf_counter()
        stages_ms = {
            "resize": (seen - started) * 1e3,
            "flow": (moved - seen) * 1e3,
            "stack": (ended - moved) * 1e3,
        }
        return _Started(spatial, temporal, manifest, flow, stages_ms)

    def clear(self) -> None:
        self._preprocessor.clear()
        self._ring.clear()

    def close(self) -> None:
        self.clear()


class CPUDevice:
    """See edge.devices.Device."""

    def __init__(self, bundle: Bundle, precision: Precision = "int8") -> None:
        self.manifest = manifest = bundle.manifest
        self._preprocessor = Preprocessor(manifest.geometry, manifest.flow)
        self._networks = [
            Network(
                bundle.read(section.file)
                if precision == "int8"
                else float_onnx(bundle.read(section.file), precision),
                f"{bundle.path}: {section.file}",
                shape,
                classes,
            )
            for section, shape, classes in (
                (manifest.spatial, (1, 3, *manifest.geometry.size_hw), len(manifest.classes)),
                (
                    manifest.temporal,
                    (1, 2 * manifest.temporal.stack, *manifest.geometry.size_hw),
                    len(manifest.classes),
                ),
            )
        ]
        self._requests = [
            (self._networks[0].request(), self._networks[1].request()) for _ in range(IN_FLIGHT)
        ]
        self._next = 0
        self.precisions: Mapping[Stream, Precision] = dict.fromkeys(STREAMS, precision)
        self.description = (
            f"cpu: OpenVINO {openvino.__version__.split('-')[0]}, {platform.machine()}"
        )
        if precision != "int8":
            self.description += f", {precision}"
        elif _int8_saturates():
            self.description += " without VNNI: INT8 computed in float"
        self._warm_up()

    def open_feed(self) -> CPUFeed:
        return CPUFeed(self, self._preprocessor.another())

    def requests(self, taken: bool) -> tuple[Request, Request]:
        """The next inference of each network; taken: it is started, and the next is another."""
        spatial, temporal = self._requests[self._next]
        self._next = (self._next + taken) % IN_FLIGHT
        return spatial, temporal

    def logits(self, stream: Stream, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        spatial, temporal = self._networks
        return (spatial if stream == "spatial" else temporal)(tensor[None])[0]

    def close(self) -> None:
        self._requests = []

    def _warm_up(self) -> None:
        self._preprocessor.warm_up()
        feed = self.open_feed()
        height, width = self.manifest.geometry.size_hw
        for index in range(self.manifest.temporal.stack + 2):
            noise = np.random.default_rng(index).integers(0, 256, (height, width), np.uint8)
            chroma = noise[::2, ::2]
            feed.submit(Frame(noise, chroma, chroma, index * 0.04, index), infer=True).result()
