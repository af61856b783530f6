"""Bias correction: compensates the mean error of rounding.

Rounding weights and inputs shifts the mean of each output channel, the more the further the inputs'
mean is from 0; and most of a flow stack is one value, so that its rounding error is no noise but a
constant. What each layer does to its own mean is subtracted from its bias, which stays float and
costs nothing (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction", 2019, section 4.2, with measured means). Here it halves the score difference.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from calibration.histogram import collect_activations
from calibration.placement import output_axis, quantise_weight, weighted_nodes
from calibration.ranges import LEVELS


@dataclass
class Means:
    """The mean of each channel of a tensor, (C,): as it is, and with its values rounded to int8."""

    exact: NDArray[np.float64]
    rounded: NDArray[np.float64]


def measure_means(
    model: onnx.ModelProto, ranges: Mapping[str, float], samples: Iterable[NDArray[np.float32]]
) -> dict[str, Means]:
    """The means of the layers' inputs over samples (channels, H, W); ranges as for `place`."""
    names = sorted({node.input[0] for node in weighted_nodes(model)} & set(ranges))
    found: dict[str, Means] = {}
    count = 0
    for values in collect_activations(model, samples, names):
        count += 1
        for name in names:
            channels = values[name].reshape(values[name].shape[1], -1)  # (C, H W)
            scale = np.float32(ranges[name] / LEVELS)
            rounded = np.clip(np.rint(channels / scale), -LEVELS, LEVELS) * scale
            exact_mean, rounded_mean = (
                x.mean(axis=1, dtype=np.float64) for x in (channels, rounded)
            )
            means = found.setdefault(name, Means(0 * exact_mean, 0 * rounded_mean))
            means.exact += exact_mean
            means.rounded += rounded_mean
    return {name: Means(m.exact / count, m.rounded / count) for name, m in found.items()}


def correct_biases(
    model: onnx.ModelProto, means: Mapping[str, Means], keep_float: Collection[str]
) -> onnx.ModelProto:
    """The FP32 model with the biases that its quantised version should have.

    Borders are neglected: the mean of a convolution is that of its input times its kernel's sum.
    Layers in `keep_float`, without a bias or with their output channels along axis 1 stay.
    """
    corrected = onnx.ModelProto()
    corrected.CopyFrom(model)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in weighted_nodes(corrected):
        known = len(node.input) == 3 and set(node.input[1:]) <= set(constants)
        if not known or output_axis(node) != 0 or node.output[0] in keep_float:
            continue
        weight, bias = (constants[name] for name in node.input[1:])
        whole, scales = quantise_weight(weight, 0)
        means_in = means[node.input[0]]
        after = _mean_output(whole, means_in.rounded) * scales
        shift = after - _mean_output(weight, means_in.exact)  # (O,)
        node.input[2] = f"{node.output[0]}_bias"  # equal biases of two layers are one tensor
        corrected.graph.initializer.append(
            numpy_helper.from_array((bias - shift).astype(np.float32), node.input[2])
        )
    used = {name for node in corrected.graph.node for name in node.input}
    kept = [tensor for tensor in corrected.graph.initializer if tensor.name in used]
    del corrected.graph.initializer[:]
    corrected.graph.initializer.extend(kept)
    return corrected


def _mean_output(weight: NDArray, mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """(O,) from weights (O, I, ...) and the means (groups I,) of the input's channels."""
    taps = weight.reshape(*weight.shape[:2], -1).sum(axis=2, dtype=np.float64)  # (O, I)
    groups = len(mean) // taps.shape[1]
    grouped = taps.reshape(groups, -1, taps.shape[1])  # (groups, O / groups, I)
    return np.einsum("goi,gi->go", grouped, mean.reshape(groups, -1)).ravel()
