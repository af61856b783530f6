"""How much room a cache of clips will take, before it is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from edge.errors import SourceError
from edge.video.clip import open_clip
from edge.video.isolation import map_apart
from train.data.clips import Clip

_OPENED = 64  # clips whose length is read; the others are taken to be as long


def expected_frames(clips: Sequence[Clip], interval_s: float, workers: int) -> int:
    """About how many frames the clips have that an input with `interval_s` between its frames can
    use; containers say how long they are, and may be wrong."""
    if not clips:
        return 0
    step = math.ceil(len(clips) / _OPENED)
    opened = clips[::step]
    counts = map_apart(partial(_count, interval_s=interval_s), opened, workers)
    known = [count for count in counts if isinstance(count, int)]
    return round(sum(known) / max(len(known), 1) * len(clips))


def _count(clip: Clip, interval_s: float) -> int:
    """The frames of a clip that are far enough apart; 0 if it cannot be read, which is said when it
    is decoded, or does not say how long it is."""
    try:
        with open_clip(clip.path, quiet=True) as frames:
            count, rate = frames.expected_frames or 0, frames.frame_rate
    except (SourceError, OSError):
        return 0
    return count if rate is None else min(count, math.ceil(count / rate / interval_s))
