"""Late fusion: from the logits of all streams to the confidence that is shown, by a weighted mean
(see KINDS) and a temperature, and means over a window of time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Manifest, MeanKind, MeanLogits, MeanSpec

Scores = NDArray[np.float32]
Logits = NDArray[Any]  # of any float type
Terms = NDArray[np.float64]


def softmax(logits: Logits, temperature: float) -> Scores:
    """Logits (..., C) divided by `temperature` to scores (..., C) that sum to 1. Logits that are
    not finite give NaN."""
    scaled = np.asarray(logits, np.float64) / temperature
    with np.errstate(invalid="ignore"):  # infinite logits: callers check that scores are finite
        scaled -= scaled.max(axis=-1, keepdims=True)
    exponentials = np.exp(scaled)
    return (exponentials / exponentials.sum(axis=-1, keepdims=True)).astype(np.float32)


def _rectify(logits: Logits) -> Terms:
    """The share of each positive logit in the sum of all positive ones; equal shares if there are
    none."""
    positive = np.maximum(logits, 0)
    total = positive.sum(axis=-1, keepdims=True)
    equal = np.full_like(positive, 1 / logits.shape[-1])
    with np.errstate(invalid="ignore"):  # infinite logits: callers check that scores are finite
        return np.divide(positive, total, out=equal, where=total != 0)


def _standardise(logits: Logits) -> Terms:
    """Logits with mean 0 and standard deviation 1 over the classes; zeros if all are equal."""
    with np.errstate(invalid="ignore"):
        centred = logits - logits.mean(axis=-1, keepdims=True)
        deviation = centred.std(axis=-1, keepdims=True)
        equal = deviation <= 1e-6
        return np.divide(centred, deviation, out=np.zeros_like(centred), where=~equal)


# What each kind of fusion takes the weighted mean of, from a stream's logits (..., C) at its
# temperature. The simplest kind is first.
KINDS: Final[dict[MeanKind, Callable[[Logits], Terms]]] = {
    # softmax scores (Simonyan and Zisserman, 2014)
    "arithmetic": lambda logits: softmax(logits, 1.0).astype(np.float64),
    # logits; a softmax of their mean is the geometric mean of the softmax scores, renormalised
    "geometric": lambda logits: logits,
    # positive logits divided by their sum; the temperature cancels
    "rectified": _rectify,
    # logits standardised over the classes; the temperature cancels
    "standardised": _standardise,
}


def stream_terms(
    kind: MeanKind, logits: Mapping[str, Logits], temperatures: Mapping[str, float]
) -> dict[str, Terms]:
    """What `kind` takes the weighted mean of, (..., C) by stream. logits: (..., C) by stream."""
    return {
        name: KINDS[kind](np.asarray(values, np.float64) / temperatures[name])
        for name, values in logits.items()
    }


def weighted_mean(terms: Mapping[str, NDArray[Any]], weights: Mapping[str, float]) -> NDArray[Any]:
    """The weighted mean of terms (..., C). terms, weights: by stream; the weights of `terms` must
    not sum to 0."""
    total = sum(weights[name] for name in terms)
    return np.asarray(sum(weights[name] / total * values for name, values in terms.items()))


def fuse(
    logits: Mapping[str, Logits],
    temperatures: Mapping[str, float],
    weights: Mapping[str, float],
    fusion: MeanSpec,
) -> Scores:
    """The fused scores (..., C) of several streams; they sum to 1.

    logits: (..., C) by stream. temperatures, weights: by stream.
    """
    mean = weighted_mean(stream_terms(fusion.kind, logits, temperatures), weights)
    if isinstance(fusion, MeanLogits):
        return softmax(mean + np.asarray(fusion.offsets), fusion.temperature)
    return apply_temperature(mean, fusion.temperature)


def stream_scores(
    logits: Mapping[str, NDArray[np.float32]], manifest: Manifest
) -> dict[str, Scores]:
    """The scores (C,) of one frame by stream, at its temperature. logits: (C,) by stream."""
    return {
        name: softmax(values, manifest.streams[name].temperature) for name, values in logits.items()
    }


class MeanFuser:
    """See edge.decision.fuser.Fuser. Each frame's scores are its own."""

    def __init__(self, manifest: Manifest, spec: MeanSpec) -> None:
        self._manifest, self._spec = manifest, spec
        self._temperatures = {name: each.temperature for name, each in manifest.streams.items()}
        self._weights = {name: each.weight for name, each in manifest.streams.items()}

    def push(self, time_s: float, logits: Mapping[str, NDArray[np.float32]]) -> StreamScores:
        fused = fuse(logits, self._temperatures, self._weights, self._spec)
        return StreamScores(stream_scores(logits, self._manifest), fused)

    def clear(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class StreamScores:
    """The scores of one frame. streams: (C,) each, by name; fused: (C,)."""

    streams: Mapping[str, Scores]
    fused: Scores


def apply_temperature(scores: Logits, temperature: float) -> Scores:
    """Temperature scaling of scores (..., C): sharper below 1, flatter above; they still sum to 1.

    As in Guo et al., "On Calibration of Modern Neural Networks", 2017, with the logarithms of the
    scores as logits.
    """
    return softmax(np.log(np.maximum(scores, 1e-12)), temperature)


def best_classes(scores: Scores, count: int) -> NDArray[np.intp]:
    """The indices (..., count) of the best classes of scores (..., C), best first; of equal scores
    the first class wins."""
    return np.argsort(-scores, axis=-1, kind="stable")[..., :count]


def top_scores(scores: Scores, classes: tuple[str, ...], count: int) -> list[tuple[str, float]]:
    """The best `count` classes of scores (C,) with their scores, best first, rounded to 4 decimals
    for display and JSON."""
    return [(classes[i], round(float(scores[i]), 4)) for i in best_classes(scores, count)]


class ScoreWindow:
    """The mean of the scores (or evidence) of the last `window_s` seconds."""

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self._times_s: deque[float] = deque()
        self._rows = np.empty((0, 0), np.float32)  # the last of them end at _end
        self._end = 0

    def push(self, time_s: float, scores: Scores) -> Scores:
        """Add the scores (C,) of the frame at stream time `time_s`, which must rise. Returns the
        window's mean (C,)."""
        self._times_s.append(time_s)
        while time_s - self._times_s[0] > self.window_s:
            self._times_s.popleft()
        count = len(self._times_s)
        if self._end == len(self._rows):  # move those that count to the front, in twice their room
            rows = np.empty((max(2 * count, 64), len(scores)), np.float32)
            if count > 1:
                rows[: count - 1] = self._rows[self._end - count + 1 : self._end]
            self._rows, self._end = rows, count - 1
        self._rows[self._end] = scores
        self._end += 1
        return np.mean(self._rows[self._end - count : self._end], axis=0)  # type: ignore[no-any-return]

    def clear(self) -> None:
        """Forget all scores, after a gap."""
        self._times_s.clear()
        self._rows, self._end = np.empty((0, 0), np.float32), 0
