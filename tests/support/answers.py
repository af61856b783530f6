"""What a device answers to frames, beside what another does."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge.commands.self_check.parity import FLOW_DIFFERENT, FLOW_FAR
from edge.decision.fusion import softmax
from edge.devices import Inference, SourceContext
from edge.motion.quantise import FlowBytes
from edge.spec import Spec
from edge.video.frames import Frame

STACK = 10
Answer = tuple[Inference | None, Mapping[Spec, FlowBytes]]


def infer(context: SourceContext, frames: list[Frame]) -> list[Answer]:
    """Two frames under way at a time, as a file is run; logits and flows."""
    results, waiting = [], None
    for frame in frames:
        future = context.submit(frame, infer=True)
        if waiting is not None:
            results.append((waiting.result(), waiting.flows()))
        waiting = future
    assert waiting is not None
    return [*results, (waiting.result(), waiting.flows())]


def assert_same(found: list[Answer], expected: list[Answer], tolerance: float = 0.02) -> None:
    """tolerance: of a score."""
    assert [each[0] is None for each in found] == [each[0] is None for each in expected]
    assert [list(each[1]) for each in found] == [list(each[1]) for each in expected]
    for (mine, flows), (theirs, wanted_flows) in zip(found, expected, strict=True):
        if mine is not None and theirs is not None:
            assert list(mine.logits) == list(theirs.logits)
            for stream, wanted in theirs.logits.items():
                scores = softmax(mine.logits[stream], 1.0)
                np.testing.assert_allclose(scores, softmax(wanted, 1.0), atol=tolerance)
        for spec, wanted_flow in wanted_flows.items():
            apart = np.abs(flows[spec].astype(int) - wanted_flow)
            # a level of luma between two may be rounded either way, by processor
            assert (apart > 1).mean() <= FLOW_FAR
            assert (apart > 0).mean() <= FLOW_DIFFERENT
