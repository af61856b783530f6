"""`twostream verify`: does this device give what the bundle's maker measured, from the frame to the
logits?

The parity run goes the way of live frames. Three things are held against each other:

    flow     bytes of every method of motion, with the maker's
    scores   of each stream, with those of the maker's networks
    input    of each stream, in two steps, for where two makers' INT8 kernels round apart, a wrong
             picture could hide among the scores: what the host builds of the maker's frames and
             flows, with values that the maker kept; and the live logits, with those that the same
             network gives for what the host builds of the same frames and the device's flows
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Bundle, load_bundle
from edge.bundle.network import Precision
from edge.bundle.parity import ParityRun, input_points, load_parity, network_inputs
from edge.decision.fusion import softmax
from edge.devices import Device, InferenceFuture, open_device
from edge.errors import DeviceError
from edge.motion.quantise import FlowBytes
from edge.spec import Spec

# Two right implementations of TV-L1 sum in another order: what that moves, it moves by a level, but
# for a few pixels between two solutions. Bytes that are cut instead of rounded differ by one, half
# of them; a picture that is shifted or rounded otherwise moves more of them further.
FLOW_DIFFERENT = 0.10  # share of bytes that differ at all
FLOW_FAR = 0.01  # and by more than one level
# Root mean square, of the logits' spread between classes. A few pixels that were rounded apart move
# an INT8 network by a hundredth; chroma that is half a level too dark, by a tenth.
INPUT_DIFFERENCE = 0.05
# Levels of 255 that a value of the host's input may be off, and the share of values that may be off
# further: OpenCV rounds a few pixels apart from version to version.
INPUT_LEVELS, INPUT_FAR = 0.25, 0.10


@dataclass(frozen=True, slots=True)
class FlowParity:
    """different, far: shares of bytes that differ at all and by more than a level, in the flow to
    the frame where that is most."""

    name: str
    flows: int
    frame: int
    different: float
    far: float

    @property
    def right(self) -> bool:
        return self.different <= FLOW_DIFFERENT and self.far <= FLOW_FAR

    def line(self) -> str:
        return (
            f"{self.name:8} {self.flows} flows, {self.different:.2%} of the bytes differ (allowed: "
            f"{FLOW_DIFFERENT:.0%}), {self.far:.2%} by more than a level (allowed: {FLOW_FAR:.0%})"
        )


@dataclass(frozen=True, slots=True)
class ScoreParity:
    """The largest difference of one stream's scores from those of the maker's network.

    sample: where it is, from 0. same_top1: how many of `samples` have the same best class.
    """

    stream: str
    samples: int
    sample: int
    difference: float
    same_top1: int

    def is_within(self, tolerance: float) -> bool:
        """NaN never is."""
        return self.difference <= tolerance

    def line(self, tolerance: float) -> str:
        return (
            f"{self.stream:8} {self.samples} samples, largest score difference "
            f"{self.difference:.4f} (allowed: {tolerance:g}), same top-1 {self.same_top1} of "
            f"{self.samples}"
        )


@dataclass(frozen=True, slots=True)
class LiveRun:
    """What a device gave for a parity run: flows (T - 1, 2, H, W), logits (N, C) by stream."""

    flows: Mapping[Spec, NDArray[np.uint8]]
    logits: Mapping[str, NDArray[np.float32]]


def run_live(device: Device, run: ParityRun) -> LiveRun:
    """Send a parity run through a device as a live source is, with as many frames under way as it
    takes."""
    context = device.open_context()
    flows: list[Mapping[Spec, FlowBytes]] = []
    logits: list[Mapping[str, NDArray[np.float32]]] = []

    def take(future: InferenceFuture) -> None:
        inference = future.result()
        if inference is not None:
            logits.append(inference.logits)
        if flow := future.flows():
            flows.append(flow)

    waiting: deque[InferenceFuture] = deque()
    for frame in run.frames:
        if len(waiting) == context.depth - 1:
            take(waiting.popleft())
        waiting.append(context.submit(frame, infer=True))
    for future in waiting:
        take(future)
    context.close()
    return LiveRun(
        {spec: np.stack([each[spec] for each in flows]) for spec in run.flows},
        {name: np.stack([each[name] for each in logits]) for name in logits[0]},
    )


def compare_flow(spec: Spec, expected: FlowBytes, found: FlowBytes) -> FlowParity:
    """Flows (T - 1, 2, H, W) uint8 of a device with the maker's."""
    apart = np.abs(found.astype(np.int16) - expected).reshape(len(expected), -1)
    different, far = (apart > 0).mean(axis=1), (apart > 1).mean(axis=1)
    worst = int(np.maximum(different / FLOW_DIFFERENT, far / FLOW_FAR).argmax())
    name = str(spec.method)  # type: ignore[attr-defined]
    return FlowParity(name, len(expected), worst + 1, float(different[worst]), float(far[worst]))


def compare_scores(
    run: ParityRun, stream: str, precision: Precision, logits: NDArray[np.float32]
) -> ScoreParity:
    """One network's logits (N, C) with the maker's: those of a float network with the maker's FP32
    one, of an INT8 network with the INT8 one."""
    maker = run.logits[stream, "int8" if precision == "int8" else "fp32"]
    expected, scores = softmax(maker, 1.0), softmax(logits, 1.0)
    apart = np.abs(scores - expected).max(axis=1)  # (N,)
    worst = int(apart.argmax())
    same = int((scores.argmax(axis=1) == expected.argmax(axis=1)).sum())
    return ScoreParity(stream, len(expected), worst, float(apart[worst]), same)


def compare_inputs(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """How far logits (N, C) of inputs that the device made are from those of inputs that the host
    made, as a share of the spread between classes, root mean square; of the worst sample."""
    spread = expected - expected.mean(axis=1, keepdims=True)
    apart = np.sqrt(((found - expected) ** 2).mean(axis=1))
    return float((apart / np.sqrt((spread**2).mean(axis=1))).max())


def compare_points(bundle: Bundle, run: ParityRun, stream: str) -> float:
    """The share of the maker's values of one stream's inputs that the host's inputs do not have."""
    expected, found = run.inputs[stream], input_points(network_inputs(bundle, run, stream))
    levels = 255 * max(bundle.manifest.streams[stream].normalisation.std)
    return float((np.abs(found - expected) * levels > INPUT_LEVELS).mean())


def verify(path: Path, device_name: str) -> list[str]:
    """One line for each method of motion, one for each stream.

    Raises DeviceError where something is further off than allowed.
    """
    bundle = load_bundle(path)
    for name in bundle.manifest.files:
        bundle.read(name)
    run = load_parity(bundle)
    device = open_device(device_name, bundle, flow_wanted=True)
    try:
        live = run_live(device, run)
        lines = _check_flows(bundle, run, live, device.description)
        for stream in bundle.manifest.streams:
            lines.append(_check_stream(bundle, run, live, device, stream))
    finally:
        device.close()
    return [*lines, f"the bundle is right on {device.description}"]


def _check_flows(bundle: Bundle, run: ParityRun, live: LiveRun, description: str) -> list[str]:
    results = [compare_flow(spec, run.flows[spec], live.flows[spec]) for spec in run.flows]
    for result in results:
        if not result.right:
            raise DeviceError(
                f"{bundle.path}: on {description} the {result.name} flow to parity frame "
                f"{result.frame} is wrong: {result.different:.1%} of its bytes differ (allowed: "
                f"{FLOW_DIFFERENT:.0%}), {result.far:.1%} by more than a level (allowed: "
                f"{FLOW_FAR:.0%}); do not use this bundle here, and report the device"
            )
    return [result.line() for result in results]


def _check_stream(
    bundle: Bundle, run: ParityRun, live: LiveRun, device: Device, stream: str
) -> str:
    tolerance = bundle.manifest.parity.tolerance
    result = compare_scores(run, stream, device.precisions[stream], live.logits[stream])
    if not result.is_within(tolerance):
        raise DeviceError(
            f"{bundle.path}: on {device.description} the {stream} scores of parity sample "
            f"{result.sample} differ by {result.difference:.3f} (allowed: {tolerance:g}); do not "
            "use this bundle here, and report the device"
        )
    far = compare_points(bundle, run, stream)
    if not far <= INPUT_FAR:
        raise DeviceError(
            f"{bundle.path}: the input of {stream} is wrong as this machine builds it: {far:.0%} "
            f"of its values differ (allowed: {INPUT_FAR:.0%}); do not use this bundle here, and "
            "report the machine"
        )
    inputs = network_inputs(bundle, replace(run, flows=live.flows), stream)
    alone = np.stack([device.logits(stream, tensor) for tensor in inputs])
    apart = compare_inputs(live.logits[stream], alone)
    if not apart <= INPUT_DIFFERENCE:
        raise DeviceError(
            f"{bundle.path}: on {device.description} the input of {stream} is wrong: its logits "
            f"differ by {apart:.1%} from those of an input built on the host (allowed: "
            f"{INPUT_DIFFERENCE:.0%}); do not use this bundle here, and report the device"
        )
    input_part = f"input difference {apart:.2%} (allowed: {INPUT_DIFFERENCE:.0%})"
    return f"{result.line(tolerance)}, {input_part}"
