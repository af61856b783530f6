"""FP32 ONNX in, INT8 (Q/DQ) ONNX out, and how far the scores moved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.bias import correct_biases, measure_means
from calibration.lint import lint
from calibration.onnx_file import load_model
from calibration.placement import activations, place
from calibration.ranges import clipping_range, measure_magnitudes
from calibration.samples import Samples, TrainingClip, draw_samples
from calibration.sensitivity import ScoreDifference, compare_scores, rank_layers
from edge.errors import ExportError
from edge.network import NetworkSpec

HELD_OUT = 4  # each fourth clip measures the score difference and sets no scale
PROBES = 8  # samples that tell which layers lose most; it takes a run of the network for each
DIFFERENCE_MAX = 0.01  # mean |score difference| that needs no (further) layer in float
FLOAT_MAX = 4  # layers that may stay float


@dataclass(frozen=True)
class Calibration:
    """A quantised model, what it was calibrated on and how close it stays."""

    model: onnx.ModelProto
    spec: NetworkSpec
    samples: Samples
    difference: ScoreDifference


def calibrate(path: Path, available: Sequence[TrainingClip], clips: int, seed: int) -> Calibration:
    """Quantise the FP32 ONNX file at `path` on those of the `available` clips that it has learnt.

    Raises ExportError or DataError where the file, the clips or the outcome is not usable.
    """
    if clips < HELD_OUT:
        raise ExportError(f"{clips} clips are too few to calibrate on; give {HELD_OUT} or more")
    model, spec = load_model(path)
    samples = draw_samples(spec, available, clips, seed)
    used, held = samples.split(HELD_OUT)
    if not len(held):
        raise ExportError(f"{path}: only {len(samples.clips)} training clips can be read; too few")
    quantised = quantise_model(model, used, held)
    return Calibration(quantised, spec, samples, compare_scores(model, quantised, held))


def quantise_model(
    model: onnx.ModelProto,
    samples: Samples | list[NDArray[np.float32]],
    judged_on: Samples | list[NDArray[np.float32]],
) -> onnx.ModelProto:
    """An FP32 model with Q/DQ and int8 weights, ranges from samples (channels, H, W).

    Where the scores of `judged_on` move too far, the few layers that 8 bits suit least stay float.
    The same model and samples give the same bytes. Raises ExportError where the model is quantised
    already, a range cannot be used, or the outcome has a fault that TensorRT would pass over.
    """
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise ExportError("the model is quantised already; give the FP32 file")
    magnitudes = measure_magnitudes(model, samples, activations(model))
    ranges = {name: clipping_range(seen) for name, seen in magnitudes.items()}
    means = measure_means(model, ranges, samples)

    def quantised_but(keep_float: list[str]) -> onnx.ModelProto:
        return place(correct_biases(model, means, keep_float), ranges, keep_float)

    keep_float: list[str] = []
    quantised = quantised_but(keep_float)
    if not _is_close(model, quantised, judged_on):
        step = max(len(judged_on) // PROBES, 1)
        probes = [sample for index, sample in enumerate(judged_on) if index % step == 0]
        ranked = rank_layers(model, ranges, probes)
        while len(keep_float) < FLOAT_MAX and not _is_close(model, quantised, judged_on):
            keep_float = ranked[: len(keep_float) + 1]
            quantised = quantised_but(keep_float)
    if faults := lint(quantised, keep_float):
        raise ExportError(f"{len(faults)} Q/DQ faults, the first: {faults[0]}")
    return quantised


def _is_close(
    model: onnx.ModelProto, quantised: onnx.ModelProto, samples: Iterable[NDArray[np.float32]]
) -> bool:
    return compare_scores(model, quantised, samples).mean <= DIFFERENCE_MAX
