"""`twostream verify`: does this device give the scores that the bundle's maker measured?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Bundle, load_bundle
from edge.bundle.network import STREAMS, Precision, Stream
from edge.bundle.parity import load_parity, spatial_inputs, temporal_inputs
from edge.decision.fusion import softmax
from edge.devices import open_device
from edge.errors import DeviceError


@dataclass(frozen=True, slots=True)
class ParityResult:
    """The largest difference of one stream's scores from those of the maker's network.

    sample: where it is, from 0. same_top1: how many of `samples` have the same best class.
    """

    stream: Stream
    samples: int
    sample: int
    difference: float
    same_top1: int


def compare_stream(
    bundle: Bundle,
    stream: Stream,
    precision: Precision,
    network: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> ParityResult:
    """Run the bundle's parity samples through one network: (channels, H, W) -> logits (C,).

    A float network is held to the scores of the maker's FP32 one, an INT8 network to those of the
    INT8 one.
    """
    samples = load_parity(bundle)
    make_inputs = spatial_inputs if stream == "spatial" else temporal_inputs
    inputs = make_inputs(bundle, samples)
    expected = getattr(samples, f"{stream}_{'int8' if precision == 'int8' else 'fp32'}")
    # parity scores are those of temperature 1, whatever the manifest's own
    scores = softmax(np.stack([network(x) for x in inputs]), 1.0)  # (N, C)
    apart = np.abs(scores - expected).max(axis=1)  # (N,)
    worst = int(apart.argmax())
    same = int((scores.argmax(axis=1) == expected.argmax(axis=1)).sum())
    return ParityResult(stream, len(samples), worst, float(apart[worst]), same)


def is_within(result: ParityResult, bundle: Bundle) -> bool:
    """Whether the bundle allows that difference; NaN it never allows."""
    return result.difference <= bundle.manifest.parity.tolerance


def verify(path: Path, device_name: str) -> list[str]:
    """One line a stream.

    Raises DeviceError where a score is further off than the bundle allows.
    """
    bundle = load_bundle(path)
    for name in bundle.manifest.files:
        bundle.read(name)
    device = open_device(device_name, bundle)
    try:
        results = [
            compare_stream(bundle, s, device.precisions[s], partial(device.logits, s))
            for s in STREAMS
        ]
    finally:
        device.close()
    allowed = bundle.manifest.parity.tolerance
    for result in results:
        if not is_within(result, bundle):
            raise DeviceError(
                f"{path}: on {device.description} the {result.stream} scores of parity sample "
                f"{result.sample} differ by {result.difference:.3f} (allowed: {allowed:g}); do not "
                "use this bundle here, and report the device"
            )
    return [
        f"{r.stream:8} {r.samples} samples, largest score difference {r.difference:.4f} "
        f"(allowed: {allowed:g}), same top-1 {r.same_top1} of {r.samples}"
        for r in results
    ] + [f"the bundle is right on {device.description}"]
