"""Late fusion: from the logits of all streams to one label, by softmax, weighted mean,
temperature, score window and threshold."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Manifest
from edge.text import NO_CLASS

Scores = NDArray[np.float32]
UNKNOWN: Final = NO_CLASS  # the label if no class reaches the threshold


def softmax(logits: NDArray[np.float32], temperature: float) -> Scores:
    """Logits (..., C) divided by `temperature` to scores (..., C) that sum to 1. Logits that are
    not finite give NaN."""
    scaled = np.asarray(logits, np.float64) / temperature
    with np.errstate(invalid="ignore"):  # infinite logits: callers check that scores are finite
        scaled -= scaled.max(axis=-1, keepdims=True)
    exponentials = np.exp(scaled)
    return (exponentials / exponentials.sum(axis=-1, keepdims=True)).astype(np.float32)


def fuse(scores: Mapping[str, Scores], weights: Mapping[str, float]) -> Scores:
    """The weighted mean of the streams' scores (..., C) (Simonyan and Zisserman, 2014). scores,
    weights: by stream; the weights of `scores` must not sum to 0."""
    total = np.float32(sum(weights[name] for name in scores))
    return sum(weights[name] * values for name, values in scores.items()) / total  # type: ignore[return-value]


def fuse_logits(logits: Mapping[str, NDArray[np.float32]], manifest: Manifest) -> StreamScores:
    """The scores of one frame. logits: (C,) by stream."""
    streams = manifest.streams
    scores = {name: softmax(values, streams[name].temperature) for name, values in logits.items()}
    fused = fuse(scores, {name: stream.weight for name, stream in streams.items()})
    return StreamScores(scores, apply_temperature(fused, manifest.fusion.temperature))


@dataclass(frozen=True, slots=True)
class StreamScores:
    """The scores of one frame. streams: (C,) each, by name; fused: (C,)."""

    streams: Mapping[str, Scores]
    fused: Scores


def apply_temperature(scores: Scores, temperature: float) -> Scores:
    """Temperature scaling of scores (..., C): sharper below 1, flatter above; they still sum to 1.

    As in Guo et al., "On Calibration of Modern Neural Networks", 2017, with the logarithms of the
    scores as logits.
    """
    return softmax(np.log(np.maximum(scores, 1e-12)), temperature)


def best_classes(scores: Scores, count: int) -> NDArray[np.intp]:
    """The indices (..., count) of the best classes of scores (..., C), best first; of equal scores
    the first class wins."""
    return np.argsort(-scores, axis=-1, kind="stable")[..., :count]


@dataclass(frozen=True, slots=True)
class Decision:
    """The result for one frame. label: a class or "unknown"; score: of the best class, 0..1, also
    if it is unknown; scores: of all classes, (C,), with sum 1."""

    label: str
    score: float
    scores: Scores


def top_scores(scores: Scores, classes: tuple[str, ...], count: int) -> list[tuple[str, float]]:
    """The best `count` classes of scores (C,) with their scores, best first, rounded to 4 decimals
    for display and JSON."""
    return [(classes[i], round(float(scores[i]), 4)) for i in best_classes(scores, count)]


def decide(scores: Scores, classes: tuple[str, ...], threshold: float) -> Decision:
    """The best class of scores (C,), or "unknown" if its score is below the threshold."""
    best = int(np.argmax(scores))
    score = float(scores[best])
    return Decision(classes[best] if score >= threshold else UNKNOWN, score, scores)


class ScoreWindow:
    """The mean of the fused scores of the last `window_s` seconds."""

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self._entries: deque[tuple[float, Scores]] = deque()

    def push(self, time_s: float, scores: Scores) -> Scores:
        """Add the scores (C,) of the frame at stream time `time_s`, which must rise. Returns the
        window's mean (C,)."""
        self._entries.append((time_s, scores))
        while time_s - self._entries[0][0] > self.window_s:
            self._entries.popleft()
        return np.mean([entry for _, entry in self._entries], axis=0, dtype=np.float32)

    def clear(self) -> None:
        """Forget all scores, after a gap."""
        self._entries.clear()
