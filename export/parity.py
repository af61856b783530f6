"""Computes the parity samples of a bundle from a run of frames, on the CPU device. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Bundle
from edge.bundle.parity import ParityRun, input_points, network_inputs
from edge.devices import Device, Inference, open_device, take_literal
from edge.devices.fusion_network import open_fusion_network, parity_inputs, run_sequence
from edge.motion.quantise import FlowBytes
from edge.spec import Spec
from edge.video.frames import Frame, default_matrix


def make_parity(bundle: Bundle, frames: Sequence[Frame]) -> ParityRun:
    """Parity samples: frames, and the flow bytes and logits that the CPU device computes from them,
    in INT8 and in FP32 (without Q/DQ).

    frames: consecutive, at the manifest's `parity.size_hw`, of limited range and with the colour
    matrix that is usual for their height, since parity.npz holds no others. Their times are rounded
    to float32. Raises ValueError if there are too few frames or one does not fit.
    """
    if len(frames) <= bundle.manifest.history:
        raise ValueError(
            f"{len(frames)} frames are too few; {bundle.manifest.history + 1} are needed"
        )
    frames = [_as_stored(bundle, frame) for frame in frames]
    logits = {}
    flows: dict[Spec, list[FlowBytes]] = {}
    for precision in ("int8", "fp32"):
        device = open_device(
            "cpu", bundle, flow_wanted=True, precision=precision, choose=take_literal
        )
        try:
            inferences, flows = _run(device, bundle, frames)
        finally:
            device.close()
        for stream in bundle.manifest.streams:
            logits[stream, precision] = np.stack([each.logits[stream] for each in inferences])
    stacked = {spec: np.stack(values) for spec, values in flows.items()}  # (T - 1, 2, H, W) each
    run = ParityRun(tuple(frames), stacked, {}, logits)
    streams = bundle.manifest.streams
    inputs = {
        name: input_points(stream, network_inputs(bundle, run, name))
        for name, stream in streams.items()
    }
    return replace(run, inputs=inputs, fused=_fused(bundle, run))


def _fused(bundle: Bundle, run: ParityRun) -> NDArray[np.float32] | None:
    network = open_fusion_network(bundle)
    return None if network is None else run_sequence(network, parity_inputs(bundle, run))


def _as_stored(bundle: Bundle, frame: Frame) -> Frame:
    """The frame as parity.npz gives it back. Raises ValueError if it cannot hold it."""
    size_hw = bundle.manifest.parity.size_hw
    matrix = default_matrix(size_hw[0])
    if (frame.size_hw, frame.matrix, frame.full_range) != (size_hw, matrix, False):
        colours = f"{frame.matrix}, {'full' if frame.full_range else 'limited'} range"
        raise ValueError(
            f"parity frames are {matrix}, limited range, at {size_hw}; this one is {colours}, at "
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
