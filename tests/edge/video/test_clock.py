"""Stream times from time stamps."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import SourceError
from edge.video.clock import StreamClock


@pytest.mark.parametrize(
    ("running_ms", "wanted_ms", "replaced"),
    [
        ([100, 140, 180], [0, 40, 80], 0),
        ([None, None, None], [0, 40, 80], 3),
        ([None, 40, 80], [0, 40, 80], 1),
        ([0, 40, None, 120], [0, 40, 80, 120], 1),
        ([0, 80, 80, 160], [0, 80, 120, 160], 1),  # XviD packed B-frames
        ([0, 40, 20, 160], [0, 40, 80, 160], 1),
    ],
)
def test_missing_and_repeated_time_stamps(
    running_ms: list[int | None], wanted_ms: list[int], replaced: int
) -> None:
    clock = StreamClock(25.0)
    times_s = [
        clock.time_s(index, None if stamp is None else stamp / 1000)
        for index, stamp in enumerate(running_ms)
    ]
    np.testing.assert_allclose(times_s, np.array(wanted_ms) / 1000, atol=1e-9)
    assert clock.replaced == replaced


def test_times_are_counted_over_dropped_frames() -> None:
    clock = StreamClock(25.0)
    times_s = [clock.time_s(index, None) for index in (0, 1, 4)]
    np.testing.assert_allclose(times_s, [0.0, 0.04, 0.16])


def test_no_time_stamps_and_no_rate_is_an_error() -> None:
    clock = StreamClock(None)
    assert clock.time_s(0, None) == 0
    with pytest.raises(SourceError, match="frame 1 has no usable time stamp"):
        clock.time_s(1, None)
