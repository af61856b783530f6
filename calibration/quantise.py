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

HELD_OUT = 4  # every fourth clip is used to measure the score difference, not to set scales
PROBES = 8  # samples to rank the layers' losses with; each needs a run of the network
# mean |score difference|: the target, and the largest that is still acceptable
DIFFERENCE_WANTED, DIFFERENCE_MAX = 0.01, 0.02
FLOAT_SHARE_MAX = 0.25  # of the layers that may stay float

Inputs = Samples | Sequence[NDArray[np.float32]]


@dataclass(frozen=True)
class Quantised:
    """A network with Q/DQ.

    method: of its ranges; ranges: the |value| of each tensor that maps to 127; tried: the mean
    score difference of each method that was tried; float_layers: the layers that stay float, by
    first output; difference: from the FP32 scores.
    """

    model: onnx.ModelProto
    method: Method
    ranges: dict[str, float]
    tried: dict[Method, float]
    float_layers: tuple[str, ...]
    difference: ScoreDifference


def quantise_model(
    model: onnx.ModelProto, samples: Inputs, judged_on: Inputs, method: Method | Literal["auto"]
) -> Quantised:
    """Quantise an FP32 model, with ranges from samples (channels, H, W).

    judged_on: other samples, on which `auto` compares the methods. If their scores change by more
    than DIFFERENCE_WANTED, the fewest possible layers (those that lose most in INT8) stay float; if
    FLOAT_SHARE_MAX of the layers is not enough for that, DIFFERENCE_MAX is the target; if that is
    not reached either, all layers are INT8. The same model and samples give the same bytes. Raises
    ExportError if the model is quantised already, a range is invalid, or the result has a fault
    that TensorRT would ignore.
    """
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise ExportError("the model is quantised already; give the FP32 file")
    name_of = samples.name_of if isinstance(samples, Samples) else "sample {}".format
    magnitudes = collect_histograms(model, samples, activations(model), name_of)
    trials = [
        _Trial(model, samples, judged_on, magnitudes, each)
        for each in (METHODS if method == "auto" else (method,))
    ]
    best = min(trials, key=lambda trial: trial.difference([]).mean)
    kept = _fewest_float(best) if best.difference([]).mean > DIFFERENCE_WANTED else []
    quantised = best.quantised(kept)
    if faults := lint(quantised, kept):
        raise ExportError(f"{len(faults)} Q/DQ faults, the first: {faults[0]}")
    tried = {trial.method: trial.difference([]).mean for trial in trials}
    return Quantised(quantised, best.method, best.ranges, tried, tuple(kept), best.difference(kept))


class _Trial:
    """The ranges of one method, and the score differences with some layers in float."""

    def __init__(
        self,
        model: onnx.ModelProto,
        samples: Inputs,
        judged_on: Inputs,
        magnitudes: Mapping[str, HistogramObserver],
        method: Method,
    ) -> None:
        self.model, self.judged_on, self.method = model, judged_on, method
        clipped = {name: clipping_range(m, method) for name, m in magnitudes.items()}
        self.ranges = join_ranges(model, clipped)
        self._means: dict[str, Means] = measure_means(model, self.ranges, samples)
        self._differences: dict[tuple[str, ...], ScoreDifference] = {}

    def quantised(self, keep_float: Collection[str]) -> onnx.ModelProto:
        corrected = correct_biases(self.model, self._means, keep_float)
        return place(corrected, self.ranges, keep_float)

    def difference(self, keep_float: Collection[str]) -> ScoreDifference:
        key = tuple(keep_float)
        if key not in self._differences:
            self._differences[key] = compare_scores(self.model, self.quantised(key), self.judged_on)
        return self._differences[key]

    def is_close(self, keep_float: Collection[str], wanted: float) -> bool:
        return self.difference(keep_float).mean <= wanted


def _fewest_float(trial: _Trial) -> list[str]:
    """The layers that must stay float: the shortest first part of the ranking that suffices, by
    bisection, without the layers in it that are not needed.
    """
    ranked = [layer.name for layer in layers_by_loss(trial.model, trial.ranges, trial.judged_on)]
    most = int(FLOAT_SHARE_MAX * len(weighted_nodes(trial.model)))
    reachable = [
        wanted
        for wanted in (DIFFERENCE_WANTED, DIFFERENCE_MAX)
        if trial.is_close(ranked[:most], wanted)
    ]
    if not reachable or trial.is_close([], reachable[0]):
        return []
    wanted = reachable[0]
    too_few, enough = 0, most
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if trial.is_close(ranked[:middle], wanted):
            enough = middle
        else:
            too_few = middle
    kept = ranked[:enough]
    for name in ranked[: enough - 1]:
        fewer = [other for other in kept if other != name]
        if trial.is_close(fewer, wanted):
            kept = fewer
    return kept


def layers_by_loss(
    model: onnx.ModelProto, ranges: Mapping[str, float], judged_on: Inputs
) -> list[LayerLoss]:
    """`rank_layers` on a few of the samples."""
    step = max(len(judged_on) // PROBES, 1)
    probes = [sample for index, sample in enumerate(judged_on) if index % step == 0]
    return rank_layers(model, ranges, probes)


def calibrate(
    model: onnx.ModelProto, samples: Samples, method: Method | Literal["auto"]
) -> Quantised:
    """Quantise a model with three quarters of the clips, and measure the result on the others.

    Raises ExportError as `quantise_model` does, and if there are too few clips.
    """
    used, held = samples.split(HELD_OUT)
    if not len(held):
        raise ExportError(
            f"{len(samples.members)} clips are too few to calibrate on; {HELD_OUT} are needed"
        )
    return quantise_model(model, used, held, method)
