"""One source on the GPU: its earlier frames and flows, and the work for each new frame."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.devices import Inference
from edge.devices.cuda.driver import Driver, Stream
from edge.devices.cuda.graph import Record
from edge.devices.cuda.kernels.device_plan import RingPlan, StackPlan, ViewPlan
from edge.devices.cuda.kernels.flow_plan import FLOW_PLANS, SLOTS, allocate_luma
from edge.devices.cuda.kernels.launches import Launch, PackedLaunch, pack
from edge.devices.cuda.network import Request
from edge.devices.cuda.shared import SharedResources
from edge.devices.cuda.slot import Slot
from edge.devices.expired import ResultExpiredError
from edge.motion.quantise import FlowBytes
from edge.spec import Spec
from edge.video.frames import Frame, Matrix


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
            stages_ms = {"resize": events["luma"].time_since(events["begin"])}
            if slot.flows:
                stages_ms["flow"] = events["flow"].time_since(events["luma"])
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
    """One motion method.

    pyramids, flows: launches by the slot of the luma picture. ring: of its flows. stacks: the
    inputs of its networks, by stream.
    """

    pyramids: Sequence[tuple[PackedLaunch, ...]]
    flows: Sequence[tuple[PackedLaunch, ...]]
    ring: RingPlan
    stacks: Mapping[str, StackPlan]


def _plan_motion(
    shared: SharedResources, spec: Spec, luma: list[int], requests: Mapping[str, Request]
) -> _Motion:
    """luma: addresses of the SLOTS luma pictures. requests: by stream."""
    manifest, driver = shared.manifest, shared.driver
    size_hw = manifest.geometry.size_hw
    streams = {k: s for k, s in manifest.streams.items() if s.input.motion == spec}
    flow = FLOW_PLANS[spec.method](spec, size_hw, luma, driver.allocate)  # type: ignore[attr-defined]
    slots = max(stream.input.stack for stream in streams.values())
    ring = RingPlan(spec, size_hw, slots, flow.flow, driver.allocate)  # type: ignore[arg-type]
    return _Motion(
        [pack(launches) for launches in flow.pyramids],
        [pack(launches) for launches in flow.flows],
        ring,
        {
            name: StackPlan(ring, s.input.stack, s.normalisation, requests[name].input)
            for name, s in streams.items()
        },
    )


class CUDASourceContext:
    """See edge.devices.SourceContext.

    Each context has its own CUDA streams, pictures, rings of flows, slots and inputs of networks,
    so that sources cannot mix, and the GPU works on several of them at the same time: the coarse
    levels of one pyramid leave most of it idle.
    """

    depth = SLOTS

    def __init__(self, shared: SharedResources, closed: list[CUDASourceContext]) -> None:
        """closed: the list that `close` adds it to, for reuse."""
        self._closed = closed
        self._shared, manifest = shared, shared.manifest
        self._driver: Driver = shared.driver
        self._luma = allocate_luma(manifest.geometry.size_hw, self._driver.allocate)
        self._main, self._side = self._driver.stream(), self._driver.stream()
        self._requests = {name: net.open_request() for name, net in shared.networks.items()}
        self._motions = {
            spec: _plan_motion(shared, spec, self._luma, self._requests)
            for spec in manifest.motions
        }
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

    def inputs(self) -> Mapping[str, NDArray[np.float32]]:
        with self._driver:
            for slot in self._slots:
                slot.wait()
            return {name: request.read_input() for name, request in self._requests.items()}

    def close(self) -> None:
        self.clear()
        self._closed.append(self)

    def _start(
        self, frame: Frame, slot: Slot, turn: int, interval_s: float, infer: bool
    ) -> tuple[int, int, int] | None:
        """Enqueue all work for a frame. Returns the shape (2, H, W) of its flows if they are copied
        to the host, else None."""
        shared, main = self._shared, self._main
        newest, has_flow = self._frames - 1, self._frames > 0
        rings = [motion.ring for motion in self._motions.values()] if has_flow else []
        view = shared.view(frame)
        slot.upload(view, frame, [ring.place(newest, interval_s) for ring in rings], main)

        def work(record: Record) -> None:
            self._enqueue(view, frame.matrix, slot, turn, has_flow, infer, record)

        # what else it depends on is the slot's, or lies on the GPU
        slot.work[has_flow, infer].run((view, frame.matrix, slot.source), work, main)
        flow_wanted = shared.flow_wanted and bool(rings)
        if flow_wanted:
            for pinned, ring in zip(slot.flows.values(), rings, strict=True):
                self._driver.download(pinned.array, ring.slot(newest), main)
        slot.events["done"].record(main)
        return (2, *shared.manifest.geometry.size_hw) if flow_wanted else None

    def _enqueue(
        self,
        view: ViewPlan,
        matrix: Matrix,
        slot: Slot,
        turn: int,
        has_flow: bool,
        infer: bool,
        record: Record,
    ) -> None:
        """What follows the upload, up to the logits: all that can be captured.

        Flow comes first: a frame takes longest for it and for the networks that wait for it.
        """
        driver, main = self._driver, self._main
        luma = self._luma[turn]
        driver.launch(pack([view.luma(slot.source, luma)]), main)
        record(slot.events["luma"], main)
        slot.events["resized"].record(main)
        for motion, place in zip(self._motions.values(), slot.places, strict=True):
            driver.launch(motion.pyramids[turn], main)
            if has_flow:
                driver.launch(motion.flows[turn], main)
                driver.launch(pack([motion.ring.quantise(place)]), main)
        record(slot.events["flow"], main)
        if infer:
            self._start_rgb_networks(view, matrix, slot, luma, record)
            for motion, place in zip(self._motions.values(), slot.places, strict=True):
                for name, plan in motion.stacks.items():
                    self._start_network(name, plan.stack(place), slot, main, record)
            main.wait_for_event(slot.events["side"])

    def _start_rgb_networks(
        self, view: ViewPlan, matrix: Matrix, slot: Slot, luma: int, record: Record
    ) -> None:
        """Start the networks without motion on the side stream.

        luma: address of the frame's resized luma, (H, W) float32.
        """
        side = self._side
        side.wait_for_event(slot.events["resized"])
        for name, coefficients in self._shared.coefficients.items():
            rgb = view.rgb(slot.source, luma, coefficients[matrix], self._requests[name].input)
            self._start_network(name, rgb, slot, side, record)
        slot.events["side"].record(side)

    def _start_network(
        self, name: str, fill_input: Launch, slot: Slot, stream: Stream, record: Record
    ) -> None:
        """Enqueue one network on a CUDA stream: fill its input, run it, and copy its logits to the
        slot."""
        request = self._requests[name]
        self._driver.launch(pack([fill_input]), stream)
        record(slot.began[name], stream)
        request.enqueue(stream)
        record(slot.ended[name], stream)
        self._driver.download(slot.logits[name].array, request.logits, stream)
