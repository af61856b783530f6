"""What a device answers to frames, beside what another does."""

from __future__ import annotations

import numpy as np

from edge.devices import Feed, Inference
from edge.motion.stack import FlowBytes
from edge.video.frames import Frame

STACK = 10
Answer = tuple[Inference | None, FlowBytes | None]


def infer(feed: Feed, frames: list[Frame]) -> list[Answer]:
    """Two frames under way at a time, as a file is run; scores and flows."""
    results, waiting = [], None
    for frame in frames:
        pending = feed.submit(frame, infer=True)
        if waiting is not None:
            results.append((waiting.result(), waiting.flow()))
        waiting = pending
    assert waiting is not None
    return [*results, (waiting.result(), waiting.flow())]


def assert_same(found: list[Answer], expected: list[Answer], tolerance: float = 0.02) -> None:
    assert [each[0] is None for each in found] == [each[0] is None for each in expected]
    assert [each[1] is None for each in found] == [each[1] is None for each in expected]
    for (mine, flow), (theirs, wanted_flow) in zip(found, expected, strict=True):
        for stream in ("spatial", "temporal", "fused") if mine is not None else ():
            wanted = getattr(theirs, stream)
            np.testing.assert_allclose(getattr(mine, stream), wanted, atol=tolerance)
        if flow is None or wanted_flow is None:
            continue
        apart = np.abs(flow.astype(int) - wanted_flow)
        assert np.quantile(apart, 0.999) <= 1
        assert (apart > 0).mean() < 0.01
