"""What some networks are worth: accuracy, and the agreement of INT8 with FP32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.network import NetworkSpec
from edge.decision.fusion import Scores
from train.data.cache import CachedClip
from train.evaluation.metrics import confusion, right_by_class, top_k
from train.evaluation.protocol import Network, Protocol, sample_scores, true_classes
from train.streams import FUSED

SAMPLES = 19  # moments of a clip: the protocol of the field
PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True)
class ClipScores:
    """Scores of some clips: by stream, or "fused", and precision.

    moments[stream, precision]: (clips, SAMPLES, C) softmax scores at evenly spaced moments, with
    `history` frames before the first.
    """

    clips: list[CachedClip]
    classes: tuple[str, ...]
    history: int
    moments: dict[tuple[str, str], Scores]

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of the streams, without "fused"."""
        names = dict.fromkeys(stream for stream, _ in self.moments)
        return tuple(name for name in names if name != FUSED)

    @property
    def truth(self) -> NDArray[np.int64]:
        """The number of each clip's class, (clips,)."""
        return true_classes(self.clips, self.classes)

    def mean(self, stream: str, precision: str) -> Scores:
        """One row a clip, (clips, C)."""
        return self.moments[stream, precision].mean(axis=1)


def score_moments(
    clips: list[CachedClip],
    specs: dict[str, NetworkSpec],
    networks: dict[tuple[str, str], Network],
) -> ClipScores:
    """Run all streams in both precisions over the clips; nothing is fused yet."""
    history = max(spec.input.history for spec in specs.values())
    protocol = Protocol(SAMPLES, 1, history)
    moments = {
        (stream, precision): np.stack(
            [sample_scores(clip, specs[stream], network, protocol) for clip in clips]
        )
        for (stream, precision), network in networks.items()
    }
    return ClipScores(clips, next(iter(specs.values())).classes, history, moments)


def accuracy_report(scores: ClipScores) -> dict[str, Any]:
    """Top-1 of each stream and precision, and how INT8 departs from FP32."""
    report: dict[str, Any] = {"clips": len(scores.clips), "samples_per_clip": SAMPLES}
    for stream in (*scores.streams, FUSED):
        fp32, int8 = (scores.mean(stream, precision) for precision in PRECISIONS)
        moved = fp32.argmax(axis=1) != int8.argmax(axis=1)
        difference = np.abs(scores.moments[stream, "fp32"] - scores.moments[stream, "int8"])
        report[stream] = {
            "top1_fp32": round(top_k(fp32, scores.truth, 1), 4),
            "top1_int8": round(top_k(int8, scores.truth, 1), 4),
            "clips_with_another_top1": int(moved.sum()),
            "mean_score_difference": round(float(difference.mean()), 5),
            "right_int8_by_class": right_by_class(confusion(int8, scores.truth), scores.classes),
        }
    return report
