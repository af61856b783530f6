"""Decides what is shown of a frame: a label with its confidence, or "unknown"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge.bundle.manifest import DecisionSpec
from edge.decision.fusion import Logits, Scores, ScoreWindow
from edge.decision.open_set import evidence, next_shown, open_set_scores, threshold_of
from edge.text import NO_CLASS

UNKNOWN: Final = NO_CLASS  # the label if no class reaches the threshold


@dataclass(frozen=True, slots=True)
class Decision:
    """The result for one frame.

    label: a class or "unknown". best: the class with the highest open-set score, whose label it is
    or would be. scores: the confidences of all classes, (C,), with sum 1. open_set: their open-set
    scores, (C,); threshold: what they have to reach; a label that is shown already may stay a
    little below. None: the best class is always shown.
    """

    label: str
    best: int
    scores: Scores
    open_set: Scores
    threshold: float | None

    @property
    def score(self) -> float:
        """The confidence of the best class, 0..1, also if it is unknown."""
        return float(self.scores[self.best])


class DecisionWindow:
    """The decisions of one source: what decides and what is shown, averaged over its last frames.

    Export fits the threshold with the same code.
    """

    def __init__(self, spec: DecisionSpec, classes: tuple[str, ...]) -> None:
        self._spec, self._classes = spec, classes
        self._evidence, self._confidence = ScoreWindow(spec.window_s), ScoreWindow(spec.window_s)
        self._shown: int | None = None

    def push(self, time_s: float, logits: Mapping[str, Logits], fused: Scores) -> Decision:
        """Add a frame at stream time `time_s`, which must rise. logits: (C,) by stream; fused: the
        frame's confidences (C,)."""
        spec = self._spec
        confidences = self._confidence.push(time_s, fused)
        mean = self._evidence.push(time_s, evidence(spec.kind, logits, fused))
        scores, threshold = open_set_scores(spec, mean), threshold_of(spec)
        self._shown = next_shown(self._shown, scores, threshold, spec.hold)
        label = UNKNOWN if self._shown is None else self._classes[self._shown]
        shown_from = None if spec.threshold is None else threshold
        return Decision(label, int(np.argmax(scores)), confidences, scores, shown_from)

    def clear(self) -> None:
        """Forget all frames, after a gap."""
        self._evidence.clear()
        self._confidence.clear()
        self._shown = None
