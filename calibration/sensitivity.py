"""How much quantisation changes the scores, in total and by layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from calibration.placement import place, weighted_nodes
from edge.bundle.network import INPUT
from edge.decision.fusion import softmax


@dataclass(frozen=True)
class ScoreDifference:
    """Softmax scores of two models, compared.

    mean, largest: of |difference| over samples and classes; same_top1: share of samples.
    """

    samples: int
    mean: float
    largest: float
    same_top1: float


@dataclass(frozen=True, slots=True)
class LayerLoss:
    """The effect of a layer when it alone is quantised.

    name: its first output; kind: its operator. difference: mean |score difference|; error: square
    error of the logits, which tells layers apart where the scores are all but 0 and 1.
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
    wanted, found = softmax(np.array(rows), 1.0).swapaxes(0, 1)  # (2, N, C)
    apart = np.abs(wanted - found)
    same = wanted.argmax(axis=1) == found.argmax(axis=1)
    return ScoreDifference(len(rows), float(apart.mean()), float(apart.max()), float(same.mean()))


def rank_layers(
    model: onnx.ModelProto, ranges: Mapping[str, float], probes: list[NDArray[np.float32]]
) -> list[LayerLoss]:
    """Convolutions and matrix products by their loss from quantisation, largest first.

    Each is quantised alone in a float network. Few layers make most of the error, mostly the first
    depthwise convolutions: with outlier weights (up to 39 where 1 is usual) they take small
    differences of nearly equal large values, which steps of 8 bits drown. In flow, where most of
    the picture stands still, that is 0.9 of the whole error.
    """
    wanted = run_model(model, probes)
    every = {node.output[0] for node in model.graph.node}
    losses = []
    for node in weighted_nodes(model):
        name = node.output[0]
        found = run_model(place(model, ranges, every - {name}), probes)
        apart = np.abs(softmax(found, 1.0) - softmax(wanted, 1.0))
        error = float(np.square(found - wanted).sum())
        losses.append(LayerLoss(name, node.op_type, float(apart.mean()), error))
    return sorted(losses, key=lambda loss: (-loss.difference, -loss.error))


def run_model(
    model: onnx.ModelProto, samples: Iterable[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Logits (N, C) of samples (channels, H, W), with Q/DQ computed as it is written."""
    session = _session(model)
    return np.array([_logits(session, sample) for sample in samples])


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session without onnxruntime's INT8 kernels, which saturate on some processors."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3  # it warns of initializers that nobody uses
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _logits(
    session: onnxruntime.InferenceSession, sample: NDArray[np.float32]
) -> NDArray[np.float32]:
    return session.run(None, {INPUT: sample[None]})[0][0]
