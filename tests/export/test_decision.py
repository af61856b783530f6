"""From the scores of one network, two or more to a decision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.decision.fusion import softmax
from export.decision import confidence_report, fit_fusion, fuse_moments, threshold_report
from export.gate import too_much_lost
from export.measure import PRECISIONS, SAMPLES, ClipScores, accuracy_report
from train.data.cache import CachedClip
from train.data.clips import Clip
from train.streams import FUSED

CLASSES = ("a", "b", "c")
NAMES = ("spatial", "temporal", "third")


def made_scores(streams: tuple[str, ...], clips: int, sure: float) -> ClipScores:
    """Clips whose streams see their class the better the later they stand in the list."""
    rng = np.random.default_rng(len(streams))
    truth = rng.integers(0, 3, clips)
    times = tuple(index / 25 for index in range(40))
    cached = [
        CachedClip(
            Clip(str(n), Path(), CLASSES[t], str(n)), (32, 32), times, "bt601", Path(), "", ()
        )
        for n, t in enumerate(truth)
    ]
    moments = {}
    for place, stream in enumerate(streams, 1):
        logits = rng.normal(0, 1, (clips, SAMPLES, 3))
        logits[np.arange(clips), :, truth] += sure * place
        for precision in PRECISIONS:
            moments[stream, precision] = softmax(logits, 1.0)
    return ClipScores(cached, CLASSES, 10, moments)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_streams_makes_a_decision(count: int) -> None:
    streams = NAMES[:count]
    known, others = made_scores(streams, 40, 1.0), made_scores(streams, 40, 0.0)
    assert known.streams == streams
    found = fit_fusion(known, others, 0.05)
    assert list(found.weights) == list(streams)
    assert sum(found.weights.values()) == pytest.approx(1)
    assert min(found.weights.values()) >= 0.6 / count - 1e-9
    assert max(found.weights, key=lambda name: found.weights[name]) == streams[-1]
    known, others = fuse_moments(known, found), fuse_moments(others, found)
    assert known.streams == streams
    report = accuracy_report(known)
    assert set(report) == {"clips", "samples_per_clip", *streams, FUSED}
    assert too_much_lost(report, streams) is None
    assert set(confidence_report(known, found)) == {*streams, FUSED}
    assert threshold_report(known, others, found.fusion)["other_actions_shown"] <= 0.05
    if count == 1:
        assert report[FUSED]["top1_int8"] == report[streams[0]]["top1_int8"]
