"""How far quantisation moves the scores, and which layers do it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from calibration.placement import place, weighted_nodes
from edge.fusion import softmax
from edge.network import INPUT


@dataclass(frozen=True)
class ScoreDifference:
    """Softmax scores of two models, compared.

    mean, largest: of |difference| over samples and classes; same_top1: share of samples.
    """

    samples: int
    mean: float
    largest: float
    same_top1: float


def compare_scores(
    reference: onnx.ModelProto, quantised: onnx.ModelProto, samples: Iterable[NDArray[np.float32]]
) -> ScoreDifference:
    """How far the softmax scores of two models are apart on samples (channels, H, W)."""
    batches = list(samples)
    wanted, found = (softmax(run_model(m, batches), 1.0) for m in (reference, quantised))
    apart = np.abs(wanted - found)  # (N, C)
    same = wanted.argmax(axis=1) == found.argmax(axis=1)
    return ScoreDifference(
        len(batches), float(apart.mean()), float(apart.max()), float(same.mean())
    )


def rank_layers(
    model: onnx.ModelProto, ranges: Mapping[str, float], probes: list[NDArray[np.float32]]
) -> list[str]:
    """Convolutions and matrix products (by first output), the one that 8 bits suit least first.

    Each is quantised alone in a float network, and the square error of the logits is taken. Few
    layers make most of it, mostly the first depthwise convolutions: with outlier weights (up to 39
    where 1 is usual) they take small differences of nearly equal large values, which steps of 8
    bits drown. In flow, where most of the picture stands still, that is 0.9 of the whole error.
    """
    wanted = run_model(model, probes)
    every = {node.output[0] for node in model.graph.node}
    errors: dict[str, float] = {}
    for node in weighted_nodes(model):
        name = node.output[0]
        found = run_model(place(model, ranges, every - {name}), probes)
        errors[name] = float(np.square(found - wanted).sum())
    return sorted(errors, key=lambda name: -errors[name])


def run_model(model: onnx.ModelProto, samples: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Logits (N, C) of samples (channels, H, W), with Q/DQ computed as it is written.

    onnxruntime's own INT8 kernels are kept out: some processors saturate in them.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3  # it warns of initializers that nobody uses
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.concatenate([session.run(None, {INPUT: sample[None]})[0] for sample in samples])
