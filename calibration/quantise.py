"""Quantises an FP32 ONNX model to INT8 (Q/DQ) and measures how much its scores change."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.bias import Means, correct_biases, measure_means
from calibration.histogram import HistogramObserver, collect_histograms
from calibration.lint import lint
from calibration.placement import activations, join_ranges, place, weighted_nodes
from calibration.ranges import METHODS, Method, clipping_range
from calibration.samples import Samples
from calibration.sensitivity import LayerLoss, ScoreDifference, compare_scores, rank_layers
from edge.errors import ExportError

HELD_OUT = 4  # every fourth clip measures the score difference and sets no scales
PROBES = 8  # samples that layers are ranked on; each costs a run of the network per layer
# mean |score difference|: the target, and the largest that is acceptable
DIFFERENCE_WANTED, DIFFERENCE_MAX = 0.01, 0.02
FLOAT_SHARE_MAX = 0.25  # largest share of the layers that stay float

Inputs = Samples | Sequence[NDArray[np.float32]]


@dataclass(frozen=True)
class Quantised:
    """A network with Q/DQ nodes.

    method: by which the ranges were chosen. ranges: the |value| of each tensor that maps to 127.
    tried: of each method that was tried, the mean score difference with the layers kept in float
    that it needs. float_layers: by first output. difference: from the FP32 scores.
    """

    model: onnx.ModelProto
    method: Method
    ranges: dict[str, float]
    tried: dict[Method, float]
    float_layers: tuple[str, ...]
    difference: ScoreDifference


def quantise_model(
    model: onnx.ModelProto, samples: Inputs, held_out: Inputs, method: Method | Literal["auto"]
) -> Quantised:
    """Quantise an FP32 model.

    samples: (channels, H, W) each, from which the ranges are taken. held_out: other samples, on
    which score differences are measured. method: of choosing ranges; "auto" takes the one that
    reaches the better target, with the fewest layers in float, then the smallest difference.

    If the difference is above DIFFERENCE_WANTED, as few layers as possible stay float, those with
    the largest loss first. If that needs more than FLOAT_SHARE_MAX of the layers, the target is
    DIFFERENCE_MAX; if that needs more, too, all layers are INT8. The same model and samples give
    the same bytes. Raises ExportError if the model is quantised already, a tensor has no valid
    range, or the result has a fault that TensorRT would ignore.
    """
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise ExportError("the model is quantised already; give the FP32 file")
    name_of = samples.name_of if isinstance(samples, Samples) else "sample {}".format
    histograms = collect_histograms(model, samples, activations(model), name_of)
    trials = [
        _Trial(model, samples, held_out, histograms, each)
        for each in (METHODS if method == "auto" else (method,))
    ]
    if any(trial.is_close([], DIFFERENCE_WANTED) for trial in trials):
        floats_of: list[list[str]] = [[] for _ in trials]  # none is needed, so none is looked for
    else:
        floats_of = [_fewest_float(trial) for trial in trials]
    best, floats = min(zip(trials, floats_of, strict=True), key=lambda each: _rank(*each))
    quantised = best.quantised(floats)
    found = lint(quantised)
    if faults := [*found.faults, *found.hints]:
        raise ExportError(f"{len(faults)} Q/DQ faults, the first: {faults[0]}")
    tried = {
        trial.method: trial.difference(kept).mean
        for trial, kept in zip(trials, floats_of, strict=True)
    }
    return Quantised(
        quantised, best.method, best.ranges, tried, tuple(floats), best.difference(floats)
    )


class _Trial:
    """The ranges of one method, and the score differences with some layers kept in float."""

    def __init__(
        self,
        model: onnx.ModelProto,
        samples: Inputs,
        held_out: Inputs,
        histograms: Mapping[str, HistogramObserver],
        method: Method,
    ) -> None:
        self.model, self.held_out, self.method = model, held_out, method
        clipped = {
            name: clipping_range(histogram, method) for name, histogram in histograms.items()
        }
        self.ranges = join_ranges(model, clipped)
        self._means: dict[str, Means] = measure_means(model, self.ranges, samples)
        self._differences: dict[tuple[str, ...], ScoreDifference] = {}

    def quantised(self, keep_float: Collection[str]) -> onnx.ModelProto:
        """The model with Q/DQ nodes and corrected biases."""
        corrected = correct_biases(self.model, self._means, keep_float)
        return place(corrected, self.ranges, keep_float)

    def difference(self, keep_float: Collection[str]) -> ScoreDifference:
        """The difference from the FP32 scores, measured once for each set of float layers."""
        key = tuple(keep_float)
        if key not in self._differences:
            self._differences[key] = compare_scores(self.model, self.quantised(key), self.held_out)
        return self._differences[key]

    def is_close(self, keep_float: Collection[str], target: float) -> bool:
        """Whether the mean score difference is at most `target`."""
        return self.difference(keep_float).mean <= target


def _rank(trial: _Trial, floats: list[str]) -> tuple[int, int, float]:
    """The smaller, the better."""
    missed = [not trial.is_close(floats, each) for each in (DIFFERENCE_WANTED, DIFFERENCE_MAX)]
    return sum(missed), len(floats), trial.difference(floats).mean


def _fewest_float(trial: _Trial) -> list[str]:
    """The layers that stay float: by bisection the shortest beginning of the ranking that reaches
    the target, and of it only the layers that are needed for it.
    """
    ranked = [layer.name for layer in layers_by_loss(trial.model, trial.ranges, trial.held_out)]
    most = int(FLOAT_SHARE_MAX * len(weighted_nodes(trial.model)))
    reachable = [
        target
        for target in (DIFFERENCE_WANTED, DIFFERENCE_MAX)
        if trial.is_close(ranked[:most], target)
    ]
    if not reachable or trial.is_close([], reachable[0]):
        return []
    target = reachable[0]
    too_few, enough = 0, most
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if trial.is_close(ranked[:middle], target):
            enough = middle
        else:
            too_few = middle
    floats = ranked[:enough]
    for name in ranked[: enough - 1]:
        fewer = [layer for layer in floats if layer != name]
        if trial.is_close(fewer, target):
            floats = fewer
    return floats


def layers_by_loss(
    model: onnx.ModelProto, ranges: Mapping[str, float], held_out: Inputs
) -> list[LayerLoss]:
    """`rank_layers` on about PROBES of the samples."""
    step = max(len(held_out) // PROBES, 1)
    probes = [sample for index, sample in enumerate(held_out) if index % step == 0]
    return rank_layers(model, ranges, probes)


def calibrate(
    model: onnx.ModelProto, samples: Samples, method: Method | Literal["auto"]
) -> Quantised:
    """Quantise a model on three quarters of the clips, and measure the result on the held-out rest.

    Raises ExportError as `quantise_model` does, and if there are too few clips.
    """
    used, held_out = samples.split(HELD_OUT)
    if not len(held_out):
        raise ExportError(
            f"{len(samples.members)} clips are too few to calibrate on; {HELD_OUT} are needed"
        )
    return quantise_model(model, used, held_out, method)
