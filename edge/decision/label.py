"""The label of one frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edge.decision.decide import Decision
from edge.decision.fusion import Scores
from edge.motion.quantise import FlowBytes
from edge.video.frames import Frame

State = Literal["warming up", "running", "standby"]
WARMING_UP: State = "warming up"
RUNNING: State = "running"
STANDBY: State = "standby"


@dataclass(frozen=True, slots=True)
class Label:
    """The label of one frame.

    source: its name. decision: None while warming up or on standby. streams: the scores (C,) of
    each stream, by name; empty without a decision. flow: of the first motion method, (2, H, W)
    uint8, for display; None if there is none. latency_ms: from the frame's arrival to this label.
    reason: why it has been warming up for so long, in one line; "" otherwise.
    """

    source: str
    frame: Frame
    state: State
    decision: Decision | None
    streams: Mapping[str, Scores]
    flow: FlowBytes | None
    latency_ms: float
    reason: str = ""
