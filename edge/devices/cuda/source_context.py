"""One source on the GPU: its earlier frames and flows, and the work for each new frame."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.devices import Inference
from edge.devices.cuda.driver import Driver
from edge.devices.cuda.kernels.device_plan import RingPlan, StackPlan, ViewPlan
from edge.devices.cuda.kernels.flow_plan import FLOW_PLANS, SLOTS, allocate_luma
from edge.devices.cuda.kernels.launches import PackedLaunch, pack
from edge.devices.cuda.shared import SharedResources
from edge.devices.cuda.slot import Slot
from edge.devices.expired import ResultExpiredError
from edge.motion.quantise import FlowBytes
from edge.spec import Spec
from edge.video.frames import Frame


@dataclass(slots=True)
class _CUDAFuture:
    """See edge.devices.InferenceFuture. Valid until two more frames are submitted.

    serial: number of the frame. infer: whether networks run on it. flow_shape: (2, H, W); None if
    no flow is copied to the host. host_ms: time in `submit`, without waiting for the slot.
    """

    slot: Slot
    serial: int
    infer: bool
    flow_shape: tuple[int, int, int] | None
    host_ms: float

    def flows(self) -> Mapping[Spec, FlowBytes]:
        if self.flow_shape is None:
            return {}
        with self.slot.driver:
            flows = self._wait().flows
            return {
                spec: pinned.array.reshape(self.flow_shape).copy() for spec, pinned in flows.items()
            }

    def result(self) -> Inference | None:
        if not self.infer:
            return None
        with self.slot.driver:
            slot = self._wait()
            events = slot.events
            logits = {
                name: pinned.array.view(np.float32).copy() for name, pinned in slot.logits.items()
            }
            stages_ms = {"resize": events["resized"].time_since(events["begin"])}
            if slot.flows:
                stages_ms["flow"] = events["flow"].time_since(events["resized"])
            for name in logits:
                stages_ms[name] = slot.ended[name].time_since(slot.began[name])
        return Inference(logits, stages_ms | {"host": self.host_ms})

    def _wait(self) -> Slot:
        if self.slot.serial != self.serial:
            raise ResultExpiredError(SLOTS)
        self.slot.wait()
        return self.slot


@dataclass(frozen=True, slots=True)
class _Motion:
    """One motion method, its launches packed but for `quantise`, whose scale changes by frame.

    pyramids, flows: by the slot of the luma picture. ring: of its flows. stacks: the inputs of its
    networks, by stream, and then by the newest slot of the ring.
    """

    pyramids: Sequence[tuple[PackedLaunch, ...]]
    flows: Sequence[tuple[PackedLaunch, ...]]
    ring: RingPlan
    stacks: Mapping[str, Sequence[tuple[PackedLaunch, ...]]]


def _plan_motion(shared: SharedResources, spec: Spec, luma: list[int]) -> _Motion:
    """luma: addresses of the SLOTS luma pictures."""
    manifest, driver = shared.manifest, shared.driver
    size_hw = manifest.geometry.size_hw
    streams = {k: s for k, s in manifest.streams.items() if s.input.motion == spec}
    flow = FLOW_PLANS[spec.method](spec, size_hw, luma, driver.allocate)  # type: ignore[attr-defined]
    slots = max(stream.input.stack for stream in streams.values())
    ring = RingPlan(spec, size_hw, slots, flow.flow, driver.allocate)  # type: ignore[arg-type]
    stacks = {
        name: StackPlan(ring, s.input.stack, s.normalisation, shared.networks[name].input).stacks
        for name, s in streams.items()
    }
    return _Motion(
        [pack(launches) for launches in flow.pyramids],
        [pack(launches) for launches in flow.flows],
        ring,
        {name: [pack([launch]) for launch in launches] for name, launches in stacks.items()},
    )


class CUDASourceContext:
    """See edge.devices.SourceContext.

    Each context has its own luma pictures, rings of flows and slots. Networks and CUDA streams are
    shared: work runs in the order in which it was submitted, so sources cannot mix.
    """

    depth = SLOTS

    def __init__(self, shared: SharedResources, closed: list[CUDASourceContext]) -> None:
        """closed: the list that `close` adds it to, for reuse."""
        self._closed = closed
        self._shared, manifest = shared, shared.manifest
        self._driver: Driver = shared.driver
        self._luma = allocate_luma(manifest.geometry.size_hw, self._driver.allocate)
        self._motions = {spec: _plan_motion(shared, spec, self._luma) for spec in manifest.motions}
        self._slots = [Slot(self._driver, manifest) for _ in range(SLOTS)]
        self._submitted = 0  # frames; luma pictures and slots take turns
        self._frames = 0  # since the last discontinuity
        self._previous_s = 0.0

    def submit(self, frame: Frame, infer: bool) -> _CUDAFuture:
        turn = self._submitted % SLOTS
        slot = self._slots[turn]
        with self._driver:
            interval_s = frame.time_s - self._previous_s
            if self._frames and interval_s <= 0:
                raise ValueError(f"frame times must rise: {self._previous_s} then {frame.time_s}")
            slot.take(self._submitted)
            started = time.perf_counter()
            infer = infer and self._frames >= self._shared.manifest.history
            flow_shape = self._start(frame, slot, turn, interval_s, infer)
        self._submitted += 1
        self._frames += 1
        self._previous_s = frame.time_s
        host_ms = (time.perf_counter() - started) * 1e3
        return _CUDAFuture(slot, slot.serial, infer, flow_shape, host_ms)

    def clear(self) -> None:
        self._frames = 0

    def close(self) -> None:
        self.clear()
        self._closed.append(self)

    def _start(
        self, frame: Frame, slot: Slot, turn: int, interval_s: float, infer: bool
    ) -> tuple[int, int, int] | None:
        """Enqueue all work for a frame. Returns the shape (2, H, W) of its flows if they are copied
        to the host, else None.

        Flow comes first: a frame takes longest for it and for the networks that wait for it.
        """
        shared, driver, main = self._shared, self._driver, self._shared.main
        view, luma = shared.view(frame), self._luma[turn]
        source = self._upload(view, frame, slot)
        driver.launch(pack([view.luma(source, luma)]), main)
        slot.events["resized"].record(main)
        flow_shape = self._compute_flows(slot, turn, interval_s)
        slot.events["flow"].record(main)
        if infer:
            shared.start_rgb_networks(view, frame.matrix, slot, source, luma)
            for motion in self._motions.values():
                newest = (self._frames - 1) % motion.ring.slots
                for name, stacks in motion.stacks.items():
                    shared.start_network(name, stacks[newest], slot, main)
            main.wait_for_event(slot.events["side"])
        slot.events["done"].record(main)
        return flow_shape

    def _compute_flows(
        self, slot: Slot, turn: int, interval_s: float
    ) -> tuple[int, int, int] | None:
        """Enqueue the flows of all methods from the previous frame. Returns their shape (2, H, W)
        if they are copied to the host, else None."""
        shared, driver, main = self._shared, self._driver, self._shared.main
        for spec, motion in self._motions.items():
            driver.launch(motion.pyramids[turn], main)
            if self._frames:
                index = self._frames - 1
                driver.launch(motion.flows[turn], main)
                driver.launch(pack([motion.ring.quantise(index, interval_s)]), main)
                if shared.flow_wanted:
                    driver.download(slot.flows[spec].array, motion.ring.slot(index), main)
        if not (self._frames and self._motions and shared.flow_wanted):
            return None
        return (2, *shared.manifest.geometry.size_hw)

    def _upload(self, view: ViewPlan, frame: Frame, slot: Slot) -> int:
        """Pack a frame and upload it. Returns the address of the packed frame on the GPU."""
        driver, size = self._driver, view.frame_bytes
        if slot.frame is None or len(slot.frame.array) < size:
            slot.frame = driver.pinned(size)
            if not driver.integrated:
                slot.device_frame = driver.allocate(size)
        packed: NDArray[np.uint8] = slot.frame.array[:size]
        view.pack(frame, packed)
        slot.events["begin"].record(self._shared.main)
        if driver.integrated:
            return slot.frame.address
        driver.upload(slot.device_frame, packed, self._shared.main)
        return slot.device_frame
