"""Labels that no network gave."""

from __future__ import annotations

import numpy as np

from edge.bundle.manifest import Manifest
from edge.decision.decide import UNKNOWN, Decision
from edge.decision.label import RUNNING, Label
from edge.video.frames import Frame


def make_label(
    manifest: Manifest,
    frame: Frame,
    action: str = "Diving",
    score: float = 0.1,
    source: str = "yard",
) -> Label:
    """The score is that of the action, fused; each stream after the first is less sure."""
    classes = manifest.classes
    index = classes.index(action)
    scores = np.full(len(classes), (1 - score) / (len(classes) - 1), np.float32)
    scores[index] = score
    shown = action if score >= 0.5 else UNKNOWN
    decision = Decision(shown, index, scores, 1.6 * scores, 1.0)
    streams = {name: scores * 0.7**n for n, name in enumerate(manifest.streams)}
    return Label(source, frame, RUNNING, decision, streams, None, 12.5)
