"""One source on the GPU: what has to be remembered of its frames, and their way through it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.devices import Inference
from edge.devices.cuda.driver import Driver
from edge.devices.cuda.kernels.device_plan import RingPlan, StackPlan, ViewPlan
from edge.devices.cuda.kernels.flow_plan import FLOW_PLANS, SLOTS, FlowPlan, allocate_luma
from edge.devices.cuda.shared import Shared
from edge.devices.cuda.slot import Slot
from edge.devices.expired import ResultExpiredError
from edge.motion.quantise import FlowBytes
from edge.spec import Spec
from edge.video.frames import Frame


@dataclass(slots=True)
class _CUDAFuture:
    """A frame under way. Its result is there until two more frames have been submitted.

    serial: of the frame that the slot was taken for. flow_shape: None where its flow stays there.
    """

    slot: Slot
    serial: int
    infer: bool
    flow_shape: tuple[int, int, int] | None
    host_ms: float

    def flows(self) -> Mapping[Spec, FlowBytes]:
        if self.flow_shape is None:
            return {}
        flows = self._wait().flows
        return {
            spec: bytes_.array.reshape(self.flow_shape).copy() for spec, bytes_ in flows.items()
        }

    def result(self) -> Inference | None:
        if not self.infer:
            return None
        slot = self._wait()
        marks = slot.marks
        logits = {name: each.array.view(np.float32).copy() for name, each in slot.logits.items()}
        stages_ms = {"resize": float(marks["seen"].time_since(marks["begin"]))}
        if slot.flows:
            stages_ms["flow"] = float(marks["flow"].time_since(marks["seen"]))
        for name in logits:
            stages_ms[name] = float(slot.ended[name].time_since(slot.began[name]))
        return Inference(logits, stages_ms | {"host": self.host_ms})

    def _wait(self) -> Slot:
        if self.slot.serial != self.serial:
            raise ResultExpiredError(SLOTS)
        self.slot.wait()
        return self.slot


@dataclass(frozen=True, slots=True)
class _Motion:
    """One method of motion, and the inputs of the networks that see it, by stream."""

    flow: FlowPlan
    ring: RingPlan
    stacks: Mapping[str, StackPlan]


def _plan_motion(shared: Shared, spec: Spec, luma: list[int]) -> _Motion:
    manifest, driver = shared.manifest, shared.driver
    size_hw = manifest.geometry.size_hw
    streams = {k: s for k, s in manifest.streams.items() if s.input.motion == spec}
    flow = FLOW_PLANS[spec.method](spec, size_hw, luma, driver.allocate)  # type: ignore[attr-defined]
    slots = max(stream.input.stack for stream in streams.values())
    ring = RingPlan(spec, size_hw, slots, flow.flow, driver.allocate)  # type: ignore[arg-type]
    stacks = {
        name: StackPlan(ring, s.input.stack, s.normalisation, shared.networks[name].input)
        for name, s in streams.items()
    }
    return _Motion(flow, ring, stacks)


class CUDASourceContext:
    """See edge.devices.SourceContext. Pictures, rings of flows and slots are its own; networks and
    both CUDA streams are shared, whose order keeps the sources apart as it does frames."""

    depth = SLOTS

    def __init__(self, shared: Shared, spare: list[CUDASourceContext]) -> None:
        """spare: where it goes when it is closed."""
        self._spare = spare
        self._shared, manifest = shared, shared.manifest
        self._driver: Driver = shared.driver
        self._luma = allocate_luma(manifest.geometry.size_hw, self._driver.allocate)
        self._motions = {spec: _plan_motion(shared, spec, self._luma) for spec in manifest.motions}
        self._slots = [Slot(self._driver, manifest) for _ in range(SLOTS)]
        self._frames = 0  # pictures and slots take turns
        self._known = 0  # frames since the last discontinuity
        self._previous_s = 0.0

    def submit(self, frame: Frame, infer: bool) -> _CUDAFuture:
        shared, driver, main = self._shared, self._driver, self._shared.main
        interval_s = frame.time_s - self._previous_s
        if self._known and interval_s <= 0:
            raise ValueError(f"frame times must rise: {self._previous_s} then {frame.time_s}")
        turn = self._frames % SLOTS
        slot, luma = self._slots[turn], self._luma[turn]
        slot.take(self._frames)
        waited = time.perf_counter()
        view = shared.view(frame)
        infer = infer and self._known >= shared.manifest.history
        source = self._upload(view, frame, slot)
        driver.launch([view.luma(source, luma)], main)
        slot.marks["seen"].record(main)
        if infer:
            shared.start_still(view, frame.matrix, slot, source, luma)
        flow_shape = self._measure(slot, turn, interval_s)
        slot.marks["flow"].record(main)
        if infer:
            for motion in self._motions.values():
                newest = (self._known - 1) % motion.ring.slots
                for name, plan in motion.stacks.items():
                    shared.start(name, plan.stacks[newest], slot, main)
            main.wait_for_event(slot.marks["side"])
        slot.marks["done"].record(main)
        self._frames += 1
        self._known += 1
        self._previous_s = frame.time_s
        host_ms = (time.perf_counter() - waited) * 1e3
        return _CUDAFuture(slot, slot.serial, infer, flow_shape, host_ms)

    def clear(self) -> None:
        self._known = 0

    def close(self) -> None:
        self.clear()
        self._spare.append(self)

    def _measure(self, slot: Slot, turn: int, interval_s: float) -> tuple[int, int, int] | None:
        """Start all flows that lead to the frame; their shape where they come to the host."""
        shared, driver, main = self._shared, self._driver, self._shared.main
        for spec, motion in self._motions.items():
            driver.launch(motion.flow.pyramids[turn], main)
            if self._known:
                index = self._known - 1
                driver.launch(motion.flow.flows[turn], main)
                driver.launch([motion.ring.quantise(index, interval_s)], main)
                if shared.flow_wanted:
                    driver.download(slot.flows[spec].array, motion.ring.slot(index), main)
        if not (self._known and self._motions and shared.flow_wanted):
            return None
        return (2, *shared.manifest.geometry.size_hw)

    def _upload(self, view: ViewPlan, frame: Frame, slot: Slot) -> int:
        """The address at which the GPU will find the packed frame."""
        driver, size = self._driver, view.frame_bytes
        if slot.frame is None or len(slot.frame.array) < size:
            slot.frame = driver.pinned(size)
            if not driver.integrated:
                slot.device_frame = driver.allocate(size)
        packed: NDArray[np.uint8] = slot.frame.array[:size]
        view.pack(frame, packed)
        slot.marks["begin"].record(self._shared.main)
        if driver.integrated:
            return slot.frame.address
        driver.upload(slot.device_frame, packed, self._shared.main)
        return slot.device_frame
