"""Computes the parity samples of a bundle from a run of frames, on the CPU device. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edge.bundle.manifest import Bundle
from edge.bundle.parity import ParityRun, input_points, network_inputs
from edge.devices import Device, Inference, open_device
from edge.motion.quantise import FlowBytes
from edge.spec import Spec
from edge.video.frames import Frame, default_matrix


def make_parity(bundle: Bundle, frames: Sequence[Frame]) -> ParityRun:
    """The flows and logits that must follow from frames at the manifest's `parity.size_hw`, by the
    networks in the bundle and by those without Q/DQ.

    frames: of limited range and the matrix of their height, which is what parity.npz can hold;
    their times are rounded as there. Raises ValueError if they are others, or too few.
    """
    if len(frames) <= bundle.manifest.history:
        raise ValueError(f"{len(frames)} frames are too few for {bundle.manifest.history} and one")
    frames = [_as_kept(bundle, frame) for frame in frames]
    logits = {}
    flows: dict[Spec, list[FlowBytes]] = {}
    for precision in ("int8", "fp32"):
        device = open_device("cpu", bundle, flow_wanted=True, precision=precision)
        try:
            inferences, flows = _run(device, bundle, frames)
        finally:
            device.close()
        for stream in bundle.manifest.streams:
            logits[stream, precision] = np.stack([each.logits[stream] for each in inferences])
    stacked = {spec: np.stack(values) for spec, values in flows.items()}  # (T - 1, 2, H, W) each
    run = ParityRun(tuple(frames), stacked, {}, logits)
    streams = bundle.manifest.streams
    inputs = {stream: input_points(network_inputs(bundle, run, stream)) for stream in streams}
    return replace(run, inputs=inputs)


def _as_kept(bundle: Bundle, frame: Frame) -> Frame:
    size_hw = bundle.manifest.parity.size_hw
    kept = (size_hw, default_matrix(size_hw[0]), False)
    if (frame.size_hw, frame.matrix, frame.full_range) != kept:
        found = f"{frame.matrix}, {'full' if frame.full_range else 'limited'} range"
        raise ValueError(
            f"parity frames are {kept[1]}, limited range, at {size_hw}; this one is {found}, at "
            f"{frame.size_hw}"
        )
    return replace(frame, time_s=float(np.float32(frame.time_s)))


def _run(
    device: Device, bundle: Bundle, frames: Sequence[Frame]
) -> tuple[list[Inference], dict[Spec, list[FlowBytes]]]:
    context = device.open_context()
    inferences = []
    flows: dict[Spec, list[FlowBytes]] = {spec: [] for spec in bundle.manifest.motions}
    for frame in frames:
        future = context.submit(frame, infer=True)
        inference = future.result()
        if inference is not None:
            inferences.append(inference)
        for spec, flow in future.flows().items():
            flows[spec].append(flow)
    context.close()
    return inferences, flows
