"""Does a device give what the bundle's maker measured, from the frame to the logits?

`check_device` sends the parity run the way of live frames. These are compared:

    flow     bytes of every method of motion, with the maker's
    scores   of each stream, with those of the maker's networks
    input    of each stream, in two steps, for where two makers' INT8 kernels round apart, a wrong
             picture could hide among the scores: what the host builds of the maker's frames and
             flows, with values that the maker kept; and what the network saw of the last frame,
             with what the host builds of the same frames and the device's flows
    fusion   of a recurrent fusion, the scores that its network gives here for the maker's logits

For a CPU, `check_motion`, `checked_inputs`, `check_scores` and `check_fusion` do the same in parts,
with the maker's flow in the inputs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Bundle, StreamSpec
from edge.bundle.network import Precision
from edge.bundle.parity import ParityRun, input_points, network_inputs
from edge.decision.fusion import softmax
from edge.devices import Device, InferenceFuture
from edge.devices.fusion_network import open_fusion_network, parity_inputs, run_sequence
from edge.errors import DeviceError
from edge.inputs.builder import motions_of, normalised
from edge.motion.preprocessor import Preprocessor
from edge.motion.quantise import FlowBytes
from edge.spec import Spec
from edge.text import counted

# Two correct implementations of TV-L1 add in different orders, which changes bytes by one level,
# except at a few pixels between two solutions. Truncating instead of rounding changes half of the
# bytes by one; a shifted or differently rounded image changes more of them by more.
FLOW_DIFFERENT = 0.10  # share of bytes that differ at all
FLOW_FAR = 0.01  # and by more than one level
# How many levels of 255 a value of an input may be off, and the share of values that may be off by
# more: OpenCV and a GPU's kernels round a few pixels differently.
INPUT_LEVELS, INPUT_FAR = 0.25, 0.10
FUSED_DIFFERENCE = 0.001  # of a recurrent fusion's score: it is float32 on every machine


@dataclass(frozen=True, slots=True)
class FlowParity:
    """A device's flows compared with those in the bundle.

    name: of the method and of the streams that use it, since two may use it in different ways.
    different, far: shares of the bytes that differ at all and by more than one level, in the worst
    flow; frame: the second frame of that flow."""

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
            f"{self.name:8} {counted(self.flows, 'flow')}, {self.different:.2%} of the bytes "
            f"differ (allowed: {FLOW_DIFFERENT:.0%}), {self.far:.2%} by more than a level "
            f"(allowed: {FLOW_FAR:.0%})"
        )


@dataclass(frozen=True, slots=True)
class ScoreParity:
    """The largest difference between one stream's scores and those stored in the bundle.

    sample: the index of the sample where it occurs. same_top1: how many of `samples` have the same
    best class.
    """

    stream: str
    samples: int
    sample: int
    difference: float
    same_top1: int

    def is_within(self, tolerance: float) -> bool:
        """Whether the difference is allowed; NaN is not."""
        return self.difference <= tolerance

    def line(self, tolerance: float) -> str:
        return (
            f"{self.stream:8} {counted(self.samples, 'sample')}, largest score difference "
            f"{self.difference:.4f} (allowed: {tolerance:g}), same top-1 {self.same_top1} of "
            f"{self.samples}"
        )


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A device's results for a parity run: flows (T - 1, 2, H, W), logits (N, C) by stream, and by
    stream the network's input for the last frame."""

    flows: Mapping[Spec, NDArray[np.uint8]]
    logits: Mapping[str, NDArray[np.float32]]
    inputs: Mapping[str, NDArray[np.float32]]


def run_live(device: Device, run: ParityRun) -> LiveRun:
    """Send a parity run through a device like a live source, with as many frames in flight as the
    device allows."""
    context = device.open_context()
    flows: list[Mapping[Spec, FlowBytes]] = []
    logits: list[Mapping[str, NDArray[np.float32]]] = []

    def collect(future: InferenceFuture) -> None:
        inference = future.result()
        if inference is not None:
            logits.append(inference.logits)
        if flow := future.flows():
            flows.append(flow)

    waiting: deque[InferenceFuture] = deque()
    for frame in run.frames:
        if len(waiting) == context.depth - 1:
            collect(waiting.popleft())
        waiting.append(context.submit(frame, infer=True))
    for future in waiting:
        collect(future)
    inputs = context.inputs()
    context.close()
    return LiveRun(
        {spec: np.stack([each[spec] for each in flows]) for spec in run.flows},
        {name: np.stack([each[name] for each in logits]) for name in logits[0]},
        inputs,
    )


def compare_flow(name: str, expected: FlowBytes, actual: FlowBytes) -> FlowParity:
    """Compare a device's flows (T - 1, 2, H, W) uint8 with those in the bundle."""
    difference = np.abs(actual.astype(np.int16) - expected).reshape(len(expected), -1)
    different, far = (difference > 0).mean(axis=1), (difference > 1).mean(axis=1)
    worst = int(np.maximum(different / FLOW_DIFFERENT, far / FLOW_FAR).argmax())
    return FlowParity(name, len(expected), worst + 1, float(different[worst]), float(far[worst]))


def compare_scores(
    run: ParityRun, stream: str, precision: Precision, logits: NDArray[np.float32]
) -> ScoreParity:
    """One network's logits (N, C) with the maker's: those of a float network with the maker's FP32
    one, of an INT8 network with the INT8 one."""
    maker = run.logits[stream, "int8" if precision == "int8" else "fp32"]
    return _compare(stream, maker, logits)


def _compare(name: str, maker: NDArray[np.float32], logits: NDArray[np.float32]) -> ScoreParity:
    expected, scores = softmax(maker, 1.0), softmax(logits, 1.0)
    apart = np.abs(scores - expected).max(axis=1)  # (N,)
    worst = int(apart.argmax())
    same = int((scores.argmax(axis=1) == expected.argmax(axis=1)).sum())
    return ScoreParity(name, len(expected), worst, float(apart[worst]), same)


def compare_inputs(
    section: StreamSpec, actual: NDArray[np.float32], expected: NDArray[np.float32]
) -> float:
    """The share of normalised input values of one stream that differ; NaN does."""
    levels = np.abs(actual - expected) * (255 * max(section.normalisation.std))
    return float((~(levels <= INPUT_LEVELS)).mean())


def check_device(bundle: Bundle, run: ParityRun, device: Device) -> list[str]:
    """Send a bundle's parity run through a device that was opened with `flow_wanted`, and compare.
    Returns a line for each motion method, each stream, and the network of a fusion.

    Raises DeviceError with what differs the most, and the limit.
    """
    live = run_live(device, run)
    lines = _check_flows(bundle, run, live.flows)
    results = check_scores(bundle, run, device.precisions, live.logits)
    checked_inputs(bundle, run)
    lines += [_check_input(bundle, run, live, result) for result in results]
    network = open_fusion_network(bundle)
    if network is not None:
        fused = run_sequence(network, parity_inputs(bundle, run))
        lines.append(check_fusion(run, fused).line(FUSED_DIFFERENCE))
    return lines


def check_motion(bundle: Bundle, run: ParityRun) -> None:
    """Compute the flows here, as the CPU device does. Raises DeviceError as `check_device` does."""
    preprocessor = Preprocessor(bundle.manifest.geometry, bundle.manifest.motions)
    steps = [preprocessor.push(frame).flows for frame in run.frames][1:]
    _check_flows(
        bundle, run, {spec: np.stack([each[spec] for each in steps]) for spec in run.flows}
    )


def checked_inputs(bundle: Bundle, run: ParityRun) -> dict[str, NDArray[Any]]:
    """The inputs (N, channels, H, W) of the parity run by stream, with the maker's flow. Raises
    DeviceError if this host does not build what the maker's did."""
    inputs = {}
    for stream in bundle.manifest.streams:
        inputs[stream] = network_inputs(bundle, run, stream)
        section = bundle.manifest.streams[stream]
        points = input_points(section, inputs[stream])
        far = compare_inputs(section, points, run.inputs[stream])
        if not far <= INPUT_FAR:
            raise DeviceError(
                f"the input of {stream} is wrong as this machine builds it: {far:.0%} of its "
                f"values differ (allowed: {INPUT_FAR:.0%})"
            )
    return inputs


def check_scores(
    bundle: Bundle,
    run: ParityRun,
    precisions: Mapping[str, Precision],
    logits: Mapping[str, NDArray[np.float32]],
) -> list[ScoreParity]:
    """Compare the scores of networks, by stream, with the maker's; logits are (N, C). Raises
    DeviceError if they differ."""
    tolerance = bundle.manifest.parity.tolerance
    results = [
        compare_scores(run, stream, precisions[stream], logits[stream])
        for stream in bundle.manifest.streams
    ]
    wrong = [result for result in results if not result.is_within(tolerance)]
    if wrong:
        worst = max(wrong, key=lambda each: np.nan_to_num(each.difference, nan=np.inf))
        raise DeviceError(
            f"the {worst.stream} scores of parity sample {worst.sample} differ by "
            f"{worst.difference:.3f} (allowed: {tolerance:g})"
        )
    return results


def check_fusion(run: ParityRun, fused: NDArray[np.float32]) -> ScoreParity:
    """Compare what the network of a fusion gives for the parity samples, (N, C), with the maker's.
    Raises DeviceError if they differ."""
    assert run.fused is not None
    result = _compare("fusion", run.fused, fused)
    if not result.is_within(FUSED_DIFFERENCE):
        raise DeviceError(
            f"the fused scores of parity sample {result.sample} differ by {result.difference:.3f} "
            f"(allowed: {FUSED_DIFFERENCE:g})"
        )
    return result


def _check_flows(
    bundle: Bundle, run: ParityRun, flows: Mapping[Spec, NDArray[np.uint8]]
) -> list[str]:
    results = []
    for spec, expected in run.flows.items():
        users = [
            stream
            for stream, section in bundle.manifest.streams.items()
            if spec in motions_of([section.input])
        ]
        name = f"{spec.method} of {' and '.join(users)}"  # type: ignore[attr-defined]
        result = compare_flow(name, expected, flows[spec])
        results.append(result)
        if not result.right:
            raise DeviceError(
                f"the flow ({result.name}) to parity frame {result.frame} is wrong: "
                f"{result.different:.1%} of its bytes differ (allowed: {FLOW_DIFFERENT:.0%}), "
                f"{result.far:.1%} by more than a level (allowed: {FLOW_FAR:.0%})"
            )
    return [result.line() for result in results]


def _check_input(bundle: Bundle, run: ParityRun, live: LiveRun, result: ScoreParity) -> str:
    stream = result.stream
    section = bundle.manifest.streams[stream]
    built = network_inputs(bundle, replace(run, flows=live.flows), stream)[-1]
    expected = normalised(section.input, section.normalisation, built)
    far = compare_inputs(section, live.inputs[stream], expected)
    if not far <= INPUT_FAR:
        raise DeviceError(
            f"the input of {stream} is wrong: {far:.1%} of its values differ from those built on "
            f"the host (allowed: {INPUT_FAR:.0%})"
        )
    input_part = f"{far:.2%} of the input differ (allowed: {INPUT_FAR:.0%})"
    return f"{result.line(bundle.manifest.parity.tolerance)}, {input_part}"
