"""Which of the last frames are a given time apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def spaced(times_s: Sequence[float], count: int, interval_s: float) -> list[int]:
    """The indices of `count` frames, oldest first: the newest, and those nearest to one, two, ...
    intervals before it. Where the frames do not reach so far back, the oldest is repeated.

    times_s: stream times of the frames, rising.
    """
    times = np.asarray(times_s)
    wanted = times[-1] - interval_s * np.arange(count - 1, -1, -1)
    return [int(index) for index in np.abs(times[:, None] - wanted).argmin(axis=0)]
