"""The CPU device: motion by edge.motion, networks by an inference back end.

The networks run on the back end's threads while this thread computes flow: networks without motion
start before the frame's flow is computed, the others after it, and the caller may submit further
frames while they run.

Times for a 320 x 240 frame with one RGB and one flow network: predicted from bytes (46 GB/s) and
operations (925 G INT8 a second) of one core, and measured on two Zen 5 cores (`twostream bench`):

                    predicted   measured, ms
    resize, RGB          0.02   0.38   OpenCV's area interpolation by 15 / 14 and 10 / 7 is scalar
    flow                 1.0    1.7    see edge.motion.tvl1
    stack                0.11   0.18   0.44 while each stack was allocated and OpenVINO copied it
    networks, alone      5.1    4.0    predicted with 35 % of the INT8 rate used; it is 45 %
    from label to label  3.5    4.2    half of all work: 7.9 ms of both cores, an eighth more than
                                       the parts take alone, for they share caches and memory. 4.9
                                       while OpenVINO pinned both networks' threads to one core and
                                       a file kept two frames in flight

Since then stacks are bytes, which the network's first kernel normalises, and RGB is vector code. On
a busy Intel Xeon with AVX-512, the least of many calls each, old and new in one run: stack 0.34 ms
as floats and 0.05 as bytes (predicted 0.04), RGB 0.17 and 0.07. Area interpolation with the same
bits as OpenCV's took 0.21 ms in place of 0.31 from 320 x 240, but longer than it from 320 x 448:
left out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Bundle
from edge.bundle.network import Precision
from edge.devices import Inference
from edge.devices.expired import ResultExpiredError
from edge.devices.inference import (
    InferenceBackEnd,
    NetworkFile,
    Request,
    StatefulNetwork,
    Way,
)
from edge.devices.stepped_state import StreamState, run_samples
from edge.inputs.builder import (
    input_shape,
    levels_of,
    normalised,
    open_input,
    state_of,
    step_interval_s,
)
from edge.motion.preprocessor import Preprocessor, Step
from edge.motion.quantise import FlowBytes
from edge.spec import Spec
from edge.video.frames import Frame, resize_to_model

IN_FLIGHT = 4  # frames whose networks may be running, so that both cores always have work


@dataclass(slots=True)
class _Slot:
    """One request per network, by stream. serial: of the frame that uses them now. unsettled:
    states that wait for one of the requests."""

    requests: Mapping[str, Request]
    serial: int = -1
    unsettled: list[StreamState] = field(default_factory=list)

    def take(self, serial: int) -> None:
        """Use it for another frame."""
        while self.unsettled:
            self.unsettled.pop().settle()
        self.serial = serial


@dataclass(slots=True)
class _CPUFuture:
    """See edge.devices.InferenceFuture. slot: None if no networks run. serial: of the frame."""

    step: Step
    slot: _Slot | None
    serial: int
    stages_ms: dict[str, float]

    def flows(self) -> Mapping[Spec, FlowBytes]:
        return self.step.flows

    def result(self) -> Inference | None:
        if self.slot is None:
            return None
        if self.slot.serial != self.serial:
            raise ResultExpiredError(IN_FLIGHT)
        logits = {}
        for name, request in self.slot.requests.items():
            logits[name], self.stages_ms[name] = request.wait()
        return Inference(logits, self.stages_ms)


class CPUSourceContext:
    """See edge.devices.SourceContext."""

    depth = IN_FLIGHT

    def __init__(self, device: CPUDevice, preprocessor: Preprocessor) -> None:
        self._device, self._preprocessor = device, preprocessor
        manifest = device.manifest
        self._builders = {
            name: open_input(stream.input, manifest.geometry.size_hw, stream.normalisation)
            for name, stream in manifest.streams.items()
        }
        streams = manifest.streams
        self._without_motion = tuple(name for name in streams if streams[name].input.motion is None)
        self._with_motion = tuple(
            name for name in streams if streams[name].input.motion is not None
        )
        self._states = device.open_states()
        self._frames = 0  # since the last discontinuity
        self._last: _Slot | None = None

    def submit(self, frame: Frame, infer: bool) -> _CPUFuture:
        manifest = self._device.manifest
        started = time.perf_counter()
        resized = resize_to_model(frame, manifest.geometry)
        infer = infer and self._frames >= manifest.history
        self._frames += 1
        slot = self._device.take_slot() if infer else None
        self._last = slot or self._last
        self._push(self._without_motion, Step(resized), slot)
        before_flow = time.perf_counter()
        step = self._preprocessor.push_resized(resized)
        after_flow = time.perf_counter()
        self._push(self._with_motion, step, slot)
        ended = time.perf_counter()
        stages_ms = {"resize": (before_flow - started) * 1e3}
        if self._with_motion:
            stages_ms |= {
                "flow": (after_flow - before_flow) * 1e3,
                "stack": (ended - after_flow) * 1e3,
            }
        return _CPUFuture(step, slot, -1 if slot is None else slot.serial, stages_ms)

    def clear(self) -> None:
        self._frames = 0
        self._preprocessor.clear()
        for builder in self._builders.values():
            builder.clear()
        for state in self._states.values():
            state.clear()

    def inputs(self) -> Mapping[str, NDArray[np.float32]]:
        requests = {} if self._last is None else self._last.requests
        streams = self._device.manifest.streams
        return {
            name: normalised(streams[name].input, streams[name].normalisation, request.input).copy()
            for name, request in requests.items()
        }

    def close(self) -> None:
        self.clear()

    def _push(self, names: tuple[str, ...], step: Step, slot: _Slot | None) -> None:
        """Push a step to some streams, and start their networks if there is a slot."""
        for name in names:
            builder = self._builders[name]
            builder.push(step)
            if slot is not None:
                request = slot.requests[name]
                builder.fill(request.input)
                self._start(name, request, step.frame.time_s, slot)

    def _start(self, name: str, request: Request, time_s: float, slot: _Slot) -> None:
        state = self._states.get(name)
        if state is None:
            request.start()
        elif state.start(request, time_s):
            slot.unsettled.append(state)


def network_files(bundle: Bundle) -> dict[str, NetworkFile]:
    """The networks by stream. Raises BundleError if a file cannot be read."""
    manifest = bundle.manifest
    return {
        name: NetworkFile(
            bundle.read(stream.file),
            f"{bundle.path}: {stream.file}",
            (1, *input_shape(stream.input, manifest.geometry.size_hw)),
            len(manifest.classes),
            state_of(stream.input),
            step_interval_s(stream.input),
            levels_of(stream.input, stream.normalisation),
        )
        for name, stream in manifest.streams.items()
    }


class CPUDevice:
    """See edge.devices.Device."""

    def __init__(self, bundle: Bundle, back_end: InferenceBackEnd, way: Way) -> None:
        self.manifest = manifest = bundle.manifest
        self._preprocessor = Preprocessor(manifest.geometry, manifest.motions)
        files = network_files(bundle)
        self._networks = {name: back_end.open_network(file, way) for name, file in files.items()}
        self._files = {name: replace(file, onnx=b"") for name, file in files.items()}
        self._slots = [
            _Slot({name: network.open_request() for name, network in self._networks.items()})
            for _ in range(IN_FLIGHT)
        ]
        self._inferred = 0  # frames on which networks were started
        precision: Precision = way.precision or "int8"
        self.precisions: Mapping[str, Precision] = dict.fromkeys(manifest.streams, precision)
        self.description = f"cpu: {back_end.describe(way)}"
        self._warm_up()

    def open_context(self) -> CPUSourceContext:
        return CPUSourceContext(self, self._preprocessor.another())

    def take_slot(self) -> _Slot:
        """The slot that was used longest ago; the result that it held can no longer be read."""
        slot = self._slots[self._inferred % IN_FLIGHT]
        slot.take(self._inferred)
        self._inferred += 1
        return slot

    def open_states(self) -> dict[str, StreamState]:
        """The states of a new source, by stream."""
        return {
            name: StreamState(cast(StatefulNetwork, self._networks[name]), file.step_interval_s)
            for name, file in self._files.items()
            if file.state
        }

    def logits(
        self, stream: str, inputs: NDArray[Any], times_s: Sequence[float]
    ) -> NDArray[np.float32]:
        return run_samples(self._networks[stream], self._files[stream], inputs, times_s)

    def close(self) -> None:
        self._slots = []
        for network in self._networks.values():
            network.close()

    def _warm_up(self) -> None:
        """Once through everything that the first frame would otherwise wait for."""
        self._preprocessor.warm_up()
        for slot in self._slots:
            for request in slot.requests.values():
                request.start()
        for slot in self._slots:
            for request in slot.requests.values():
                request.wait()
