"""What is said of one frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge.decision.fusion import Decision, Scores
from edge.motion.stack import FlowBytes
from edge.video.frames import Frame

State = Literal["warming up", "running", "standby"]
WARMING_UP: State = "warming up"
RUNNING: State = "running"
STANDBY: State = "standby"


@dataclass(frozen=True, slots=True)
class Label:
    """What is said of one frame.

    source: its name. decision, spatial, temporal: None while warming up or idle. flow: (2, H, W)
    uint8, for a picture of it. latency_ms: from the frame's arrival to this label.
    """

    source: str
    frame: Frame
    state: State
    decision: Decision | None
    spatial: Scores | None
    temporal: Scores | None
    flow: FlowBytes | None
    latency_ms: float
