"""Which frames follow each other closely enough for flow, and which come too soon.

Training, calibration and runs apply the same two rules, so that a stack of flows spans the same
time in all of them.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a process that only computes networks needs no frames
    from edge.video.frames import Frame

# Between frames further apart than this, flow means nothing: start again.
MAX_GAP_S = 0.25
# Frames closer together than this share of the training interval are skipped: at 60 frames a second
# a stack would span less than half the time that the network was trained on.
MIN_INTERVAL_SHARE = 0.6


class Pace(Enum):
    """How a frame follows the one before it."""

    NEXT = "next"
    TOO_SOON = "too soon"  # it is skipped
    AFTER_GAP = "after a gap"  # all earlier frames are forgotten


def pace(previous_s: float | None, frame: Frame, interval_s: float) -> Pace:
    """previous_s: stream time of the last frame that was not skipped, None for the first one.
    interval_s: between frames in training."""
    if previous_s is None:
        return Pace.NEXT
    since_s = frame.time_s - previous_s
    if frame.discontinuity or not 0 < since_s <= MAX_GAP_S:
        return Pace.AFTER_GAP
    return Pace.TOO_SOON if since_s < MIN_INTERVAL_SHARE * interval_s else Pace.NEXT
