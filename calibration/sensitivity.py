"""Measures how much quantisation changes the scores, in total and by layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from calibration.placement import place, weighted_nodes
from calibration.steps import run_steps
from edge.bundle.tensor_names import OUTPUT
from edge.decision.fusion import softmax


@dataclass(frozen=True)
class ScoreDifference:
    """The difference of the softmax scores of two models.

    samples: their number. mean, largest: of |difference| over samples and classes. same_top1: share
    of the samples with the same best class, 0 to 1.
    """

    samples: int
    mean: float
    largest: float
    same_top1: float


@dataclass(frozen=True, slots=True)
class LayerLoss:
    """The effect of quantising one layer alone.

    name: its first output; kind: its operator. difference: mean |score difference|. error: sum of
    the squared differences of the logits, to rank layers if the scores are close to 0 and 1.
    """

    name: str
    kind: str
    difference: float
    error: float


def compare_scores(
    reference: onnx.ModelProto, quantised: onnx.ModelProto, samples: Iterable[NDArray[np.float32]]
) -> ScoreDifference:
    """The difference of the softmax scores of two models on samples (channels, H, W)."""
    sessions = [_session(model) for model in (reference, quantised)]
    rows = [[_logits(session, sample) for session in sessions] for sample in samples]
    scores, quantised_scores = softmax(np.array(rows), 1.0).swapaxes(0, 1)  # (2, N, C)
    difference = np.abs(scores - quantised_scores)
    same = scores.argmax(axis=1) == quantised_scores.argmax(axis=1)
    return ScoreDifference(
        len(rows), float(difference.mean()), float(difference.max()), float(same.mean())
    )


def rank_layers(
    model: onnx.ModelProto, ranges: Mapping[str, float], probes: list[NDArray[np.float32]]
) -> list[LayerLoss]:
    """Convolutions and matrix products by the loss from quantising each alone, largest first.

    ranges: see `place`. probes: samples (channels, H, W). Few layers make most of the error, mostly
    the first depthwise convolutions: their outlier weights (up to 39, where 1 is usual) take
    differences of large, nearly equal values, which are smaller than an 8-bit step. In the temporal
    network that is 0.9 of the whole error, since most of the flow is 0.
    """
    logits = run_model(model, probes)
    nodes = {node.output[0] for node in model.graph.node}
    losses = []
    for node in weighted_nodes(model):
        name = node.output[0]
        quantised = run_model(place(model, ranges, nodes - {name}), probes)
        difference = np.abs(softmax(quantised, 1.0) - softmax(logits, 1.0))
        error = float(np.square(quantised - logits).sum())
        losses.append(LayerLoss(name, node.op_type, float(difference.mean()), error))
    return sorted(losses, key=lambda loss: (-loss.difference, -loss.error))


def run_model(
    model: onnx.ModelProto, samples: Iterable[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Logits (N, C) of samples (channels, H, W), with Q/DQ nodes computed one by one in float."""
    session = _session(model)
    return np.array([_logits(session, sample) for sample in samples])


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session without graph optimisations: the INT8 kernels saturate on some processors."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3  # without warnings of unused initializers
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _logits(
    session: onnxruntime.InferenceSession, sample: NDArray[np.float32]
) -> NDArray[np.float32]:
    (logits,) = run_steps(session, [OUTPUT], sample)
    return logits[-1]
