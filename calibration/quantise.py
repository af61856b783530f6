"""FP32 ONNX in, INT8 (Q/DQ) ONNX out, and how far the scores moved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from calibration.lint import lint
from calibration.onnx_file import load_model
from calibration.placement import activations, place
from calibration.ranges import clipping_range, measure_magnitudes
from calibration.samples import Samples, draw_samples
from edge.errors import ExportError
from edge.fusion import Scores, softmax
from edge.network import INPUT, NetworkSpec

HELD_OUT = 4  # each fourth clip measures the score difference and sets no scale


@dataclass(frozen=True)
class ScoreDifference:
    """Softmax scores, INT8 against FP32, on samples that set no scale.

    mean, largest: of |difference| over samples and classes; same_top1: share of samples.
    """

    samples: int
    mean: float
    largest: float
    same_top1: float


@dataclass(frozen=True)
class Calibration:
    """A quantised model, what it was calibrated on and how close it stays."""

    model: onnx.ModelProto
    spec: NetworkSpec
    samples: Samples
    difference: ScoreDifference


def calibrate(path: Path, videos: Path, clips: int, seed: int) -> Calibration:
    """Quantise the FP32 ONNX file at `path` on its own training clips below `videos`.

    Raises ExportError or DataError where the file, the clips or the outcome is not usable.
    """
    if clips < HELD_OUT:
        raise ExportError(f"{clips} clips are too few to calibrate on; give {HELD_OUT} or more")
    model, spec = load_model(path)
    samples = draw_samples(spec, videos, clips, seed)
    used, held = samples.split(HELD_OUT)
    if not len(held):
        raise ExportError(f"{videos}: only {len(samples.clips)} clips can be read; too few")
    quantised = quantise_model(model, used)
    return Calibration(quantised, spec, samples, compare_scores(model, quantised, held))


def quantise_model(
    model: onnx.ModelProto, samples: Iterable[NDArray[np.float32]]
) -> onnx.ModelProto:
    """An FP32 model with Q/DQ and int8 weights, ranges from samples (channels, H, W).

    The same model and samples give the same bytes. Raises ExportError where the model is quantised
    already, a range cannot be used, or the outcome has a fault that TensorRT would pass over.
    """
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise ExportError("the model is quantised already; give the FP32 file")
    magnitudes = measure_magnitudes(model, samples, activations(model))
    quantised = place(model, {name: clipping_range(seen) for name, seen in magnitudes.items()})
    if faults := lint(quantised):
        raise ExportError(f"{len(faults)} Q/DQ faults, the first: {faults[0]}")
    return quantised


def compare_scores(
    reference: onnx.ModelProto, quantised: onnx.ModelProto, samples: Iterable[NDArray[np.float32]]
) -> ScoreDifference:
    """How far the softmax scores of two models are apart on samples (channels, H, W)."""
    batches = [sample[None] for sample in samples]  # each (1, channels, H, W)
    wanted, found = (_scores(model, batches) for model in (reference, quantised))
    apart = np.abs(wanted - found)  # (N, C)
    same = wanted.argmax(axis=1) == found.argmax(axis=1)
    return ScoreDifference(
        len(batches), float(apart.mean()), float(apart.max()), float(same.mean())
    )


def _scores(model: onnx.ModelProto, batches: list[NDArray[np.float32]]) -> Scores:
    options = onnxruntime.SessionOptions()
    # As written, without onnxruntime's own INT8 kernels: those saturate on some processors.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3  # it warns of initializers that nobody uses
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    logits = np.concatenate([session.run(None, {INPUT: batch})[0] for batch in batches])
    return softmax(logits, 1.0)
