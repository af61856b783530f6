"""The CUDA device: kernels through pycuda, networks in TensorRT, all on the GPU from the frame to
the scores.

Two CUDA streams. One takes every frame from upload to flow, stack, temporal network and scores; the
other makes RGB of it and runs the spatial network meanwhile:

    main   upload ─ luma ─ pyramid ─ flow ─ quantise ─ stack ─ temporal ─┬─ fuse ─ download
                      └ seen                                             └ spatial done
    side                └─ rgb ─ spatial ────────────────────────────────┘

`main` waits for `side` before it fuses, and `side` waits for `seen` of each frame, so no buffer of
a frame is written while the one before it is still read. The host waits only where a frame's slot
(its pinned memory) is needed again, two frames later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Bundle
from edge.bundle.network import STREAMS, Precision, Stream
from edge.devices import Inference
from edge.devices.cuda.driver import Driver, Pinned, open_driver
from edge.devices.cuda.kernels.device_plan import (
    FusePlan,
    StackPlan,
    ViewPlan,
    is_nv12,
    write_colour,
)
from edge.devices.cuda.kernels.flow_plan import SLOTS, FlowPlan
from edge.devices.cuda.kernels.launches import Launch
from edge.devices.tensorrt.builder import BuildConfig
from edge.devices.tensorrt.engine import Engine
from edge.devices.tensorrt.prepare import (
    PreparedEngine,
    engine_folder,
    get_or_build_engine,
    planted_engines,
    read_tuning,
)
from edge.devices.tensorrt.version import load_tensorrt
from edge.motion.stack import FlowBytes
from edge.video.frames import Frame, Matrix

logger = logging.getLogger(__name__)

MATRICES: tuple[Matrix, Matrix] = ("bt601", "bt709")
DEFAULT = BuildConfig(precision="int8", dla_core=None, workspace_mb=None)
_MARKS = ("begin", "seen", "flow", "rgb", "spatial", "stack", "temporal", "done")


class Network:
    """One stream's network on the GPU, with memory of its own for input and logits.

    input: address of (channels, H, W) float32; logits: of (C,) float32.
    """

    def __init__(self, trt: Any, bundle: Bundle, driver: Driver, prepared: PreparedEngine) -> None:
        manifest = bundle.manifest
        section = manifest.spatial if prepared.stream == "spatial" else manifest.temporal
        channels = 3 if prepared.stream == "spatial" else 2 * manifest.temporal.stack
        shape = (1, channels, *manifest.geometry.size_hw)
        self._driver, self._classes = driver, len(manifest.classes)
        self.precision = prepared.key.precision
        name, core = f"{bundle.path}: {section.file}", prepared.key.dla_core
        self._engine = Engine(trt, prepared.plan, name, shape, self._classes, core)
        self.input = driver.allocate(4 * int(np.prod(shape)))
        self.logits = driver.allocate(4 * self._classes)
        self._engine.bind(self.input, self.logits)

    def __call__(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """(channels, H, W) -> logits (C,), at once."""
        stream = self._driver.stream()
        out = np.empty(self._classes, np.float32)
        self._driver.write(self.input, tensor)
        self.enqueue(stream)
        stream.synchronize()
        self._driver.read(self.logits, out)
        return out

    def enqueue(self, stream: Any) -> None:
        """Start it on a CUDA stream, with what `input` then holds."""
        self._engine.enqueue(stream.handle)

    def close(self) -> None:
        self._engine.close()


class _View:
    """Frames of one size and format: their plan, and its taps on the GPU."""

    def __init__(self, driver: Driver, plan: ViewPlan) -> None:
        self.plan = plan
        self.taps = driver.place(plan.taps)


class _Slot:
    """What a frame has for itself while it is under way: memory to come and go, and events.

    free: nothing is under way in it. serial: of the frame that it was last taken for.
    """

    def __init__(self, driver: Driver, score_bytes: int, flow_bytes: int) -> None:
        self.frame: Pinned | None = None
        self.device_frame = 0
        self.scores = driver.pinned(score_bytes)
        self.flow = driver.pinned(flow_bytes)
        self.marks = {name: driver.event() for name in _MARKS}
        self.free = True
        self.serial = -1

    def take(self, serial: int) -> None:
        """For another frame, once the one before is done."""
        self.wait()
        self.free, self.serial = False, serial

    def wait(self) -> None:
        if not self.free:
            self.marks["done"].synchronize()
            self.free = True

    def milliseconds(self, begin: str, end: str) -> float:
        return float(self.marks[end].time_since(self.marks[begin]))


@dataclass(slots=True)
class _Started:
    """A frame under way. Its result is there until two more frames have been submitted.

    serial: of the frame that the slot was taken for. flow_shape: None where its flow stays there.
    """

    slot: _Slot
    serial: int
    infer: bool
    classes: int
    flow_shape: tuple[int, int, int] | None
    host_ms: float

    def _wait(self) -> _Slot:
        if self.slot.serial != self.serial:
            raise RuntimeError("the result of a frame was asked for two frames later")
        self.slot.wait()
        return self.slot

    def flow(self) -> FlowBytes | None:
        if self.flow_shape is None:
            return None
        return self._wait().flow.array.reshape(self.flow_shape).copy()

    def result(self) -> Inference | None:
        if not self.infer:
            return None
        slot = self._wait()
        spatial, temporal, fused = (
            slot.scores.array.view(np.float32).reshape(3, self.classes).copy()
        )
        stages_ms = {
            "resize": slot.milliseconds("begin", "seen"),
            "flow": slot.milliseconds("seen", "flow"),
            "spatial": slot.milliseconds("rgb", "spatial"),
            "temporal": slot.milliseconds("stack", "temporal"),
            "scores": slot.milliseconds("temporal", "done"),
            "host": self.host_ms,
        }
        return Inference(spatial, temporal, fused, stages_ms)


class CUDAFeed:
    """See edge.devices.Feed. Pyramids, ring of flows and slots are its own; networks, scores and
    both CUDA streams are the device's, whose order keeps the feeds apart as it does frames."""

    depth = SLOTS

    def __init__(self, device: CUDADevice) -> None:
        self._device = device
        self._driver, manifest = device.driver, device.manifest
        size_hw, length = manifest.geometry.size_hw, manifest.temporal.stack
        self._length, self._classes = length, len(manifest.classes)
        self._flow = FlowPlan(manifest.flow, size_hw, self._driver.allocate)
        self._stack = StackPlan(
            manifest.flow,
            size_hw,
            length,
            manifest.temporal.layout,
            manifest.temporal.normalisation,
            self._flow.flow,
            device.networks["temporal"].input,
            self._driver.allocate,
        )
        flow_bytes = 2 * size_hw[0] * size_hw[1]
        self._slots = [_Slot(self._driver, 12 * self._classes, flow_bytes) for _ in range(SLOTS)]
        self._frames = 0  # pyramids and slots take turns
        self._flows = 0  # since the last gap
        self._previous_s: float | None = None

    def submit(self, frame: Frame, infer: bool) -> _Started:
        device, driver, main = self._device, self._driver, self._device.main
        turn = self._frames % SLOTS
        slot = self._slots[turn]
        interval_s = None if self._previous_s is None else frame.time_s - self._previous_s
        if interval_s is not None and interval_s <= 0:
            raise ValueError(f"frame times must rise: {self._previous_s} then {frame.time_s}")
        slot.take(self._frames)
        waited = time.perf_counter()
        view = device.view(frame)
        infer = infer and interval_s is not None and self._flows + 1 >= self._length
        source = self._upload(view, frame, slot)
        driver.launch([view.plan.luma(source, view.taps, self._flow.luma[turn])], main)
        slot.marks["seen"].record(main)
        if infer:
            device.start_spatial(view, frame.matrix, slot, source, self._flow.luma[turn])
        driver.launch(self._flow.pyramids[turn], main)
        flow_shape = None
        if interval_s is not None:
            driver.launch(self._flow.flows[turn], main)
            driver.launch([self._stack.quantise(self._flows, interval_s)], main)
            if device.flow_wanted:
                flow_shape = (2, *device.manifest.geometry.size_hw)
                driver.download(slot.flow.array, self._stack.slot(self._flows), main)
            self._flows += 1
        slot.marks["flow"].record(main)
        if infer:
            stack = self._stack.stacks[(self._flows - 1) % self._length]
            device.start_temporal(stack, slot)
        slot.marks["done"].record(main)
        self._frames += 1
        self._previous_s = frame.time_s
        host_ms = (time.perf_counter() - waited) * 1e3
        return _Started(slot, slot.serial, infer, self._classes, flow_shape, host_ms)

    def clear(self) -> None:
        self._flows, self._previous_s = 0, None

    def close(self) -> None:
        self.clear()
        self._device.spare.append(self)

    def _upload(self, view: _View, frame: Frame, slot: _Slot) -> int:
        """The address at which the GPU will find the packed frame."""
        driver, size = self._driver, view.plan.frame_bytes
        if slot.frame is None or len(slot.frame.array) < size:
            slot.frame = driver.pinned(size)
            if not driver.integrated:
                slot.device_frame = driver.allocate(size)
        packed = slot.frame.array[:size]
        view.plan.pack(frame, packed)
        slot.marks["begin"].record(self._device.main)
        if driver.integrated:
            return slot.frame.address
        driver.upload(slot.device_frame, packed, self._device.main)
        return slot.device_frame


class CUDADevice:
    """See edge.devices.Device. resources: what `close` gives back, in turn. spare: feeds that have
    been closed, for the next cameras: memory on the GPU is given back with the device alone."""

    def __init__(
        self, bundle: Bundle, driver: Driver, networks: dict[Stream, Network], flow_wanted: bool
    ) -> None:
        manifest = bundle.manifest
        self.driver, self.networks, self.manifest = driver, networks, manifest
        self.flow_wanted = flow_wanted
        self.resources = ExitStack()
        self.spare: list[CUDAFeed] = []
        self._fuse = FusePlan(
            len(manifest.classes),
            (manifest.spatial.temperature, manifest.temporal.temperature),
            manifest.fusion,
            networks["spatial"].logits,
            networks["temporal"].logits,
            driver.allocate,
        )
        normalisation = manifest.spatial.normalisation
        self._colours = {m: driver.place(write_colour(m, normalisation)) for m in MATRICES}
        self._views: dict[tuple[tuple[int, int], bool, bool], _View] = {}
        self.main, self._side = driver.stream(), driver.stream()
        self.precisions: Mapping[Stream, Precision] = {
            stream: network.precision for stream, network in networks.items()
        }
        self.description = f"cuda: {driver.gpu.name}"

    def open_feed(self) -> CUDAFeed:
        return self.spare.pop() if self.spare else CUDAFeed(self)

    def logits(self, stream: Stream, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.networks[stream](tensor)

    def close(self) -> None:
        self.resources.close()

    def view(self, frame: Frame) -> _View:
        key = (frame.size_hw, is_nv12(frame), frame.full_range)
        if key not in self._views:
            plan = ViewPlan(*key, self.manifest.geometry)
            self._views[key] = _View(self.driver, plan)
        return self._views[key]

    def start_spatial(
        self, view: _View, matrix: Matrix, slot: _Slot, source: int, luma: int
    ) -> None:
        """source: address of the packed frame; luma: of its picture, (H, W) float32."""
        side = self._side
        side.wait_for_event(slot.marks["seen"])
        colour, out = self._colours[matrix], self.networks["spatial"].input
        self.driver.launch([view.plan.rgb(source, view.taps, luma, colour, out)], side)
        slot.marks["rgb"].record(side)
        self.networks["spatial"].enqueue(side)
        slot.marks["spatial"].record(side)

    def start_temporal(self, stack: Launch, slot: _Slot) -> None:
        """Stack, temporal network, scores; stack: of the feed, its newest flow being the last."""
        driver, main = self.driver, self.main
        driver.launch([stack], main)
        slot.marks["stack"].record(main)
        self.networks["temporal"].enqueue(main)
        slot.marks["temporal"].record(main)
        main.wait_for_event(slot.marks["spatial"])
        driver.launch([self._fuse.launch], main)
        driver.download(slot.scores.array, self._fuse.scores, main)


def open_cuda(bundle: Bundle, flow_wanted: bool, precision: Precision | None) -> CUDADevice:
    """The bundle on the first GPU, with engines of `precision`, or else those of the last
    `twostream build`, or INT8 ones; what is not built yet is built now. Raises DeviceError where
    that cannot be."""
    with ExitStack() as stack:
        driver = stack.enter_context(open_driver())
        trt = load_tensorrt()
        if planted := planted_engines(bundle):
            logger.warning("%s", planted)
        choice = read_tuning(engine_folder(bundle), driver.gpu, trt.__version__) or {}
        networks = {}
        for stream in STREAMS:
            config = choice.get(stream, DEFAULT)
            if precision is not None:
                config = replace(config, precision=precision)
            prepared = get_or_build_engine(trt, bundle, stream, driver.gpu, config)
            networks[stream] = Network(trt, bundle, driver, prepared)
            stack.callback(networks[stream].close)
        stack.callback(driver.settle)  # comes first: no network goes while it still runs
        device = CUDADevice(bundle, driver, networks, flow_wanted)
        warm_up(device, bundle)
        kinds = "/".join(device.precisions[stream] for stream in STREAMS)
        device.description += f", TensorRT {trt.__version__} {kinds}"
        for note in driver.notes:
            logger.warning("%s", note)
        device.resources = stack.pop_all()
    return device


def warm_up(device: CUDADevice, bundle: Bundle) -> None:
    """Run everything often enough that nothing is loaded or tuned during the first frame."""
    feed = device.open_feed()
    height, width = bundle.manifest.geometry.size_hw
    for index in range(bundle.manifest.temporal.stack + 2):
        noise = np.random.default_rng(index).integers(0, 256, (height, width), np.uint8)
        chroma = noise[::2, : width // 2]
        feed.submit(Frame(noise, chroma, chroma, index * 0.04, index), infer=True).result()
    feed.close()
