"""Stream times: one clock for files and cameras."""

from __future__ import annotations

from edge.errors import SourceError

# A stamp that goes back by more than this begins a new count: two recordings were joined, or the
# sender began again. One that goes back by less is a fault of its frame alone.
_NEW_COUNT_S = 0.5


class StreamClock:
    """Seconds since the first frame, strictly rising, from time stamps of any origin.

    A stamp that is missing or not later than the one before is replaced: the frame follows the
    last one by the nominal interval between frames. replaced: how many were.
    """

    def __init__(self, frame_rate: float | None) -> None:
        """frame_rate: frames a second, nominal; None: the stream states none."""
        self.replaced = 0
        self._interval_s = 1 / frame_rate if frame_rate else None
        self._origin_s: float | None = None
        self._last: tuple[int, float] | None = None  # (index, time_s)

    def time_s(self, index: int, stamp_s: float | None) -> float:
        """The time of frame `index`. stamp_s: its time stamp, None if it has none.

        Raises SourceError if there is neither a usable stamp nor a rate.
        """
        expected_s = self._expected_s(index)
        time_s = None
        if stamp_s is not None:
            if self._origin_s is None:
                self._origin_s = stamp_s - (expected_s or 0.0)
            time_s = stamp_s - self._origin_s
        if time_s is None or (self._last is not None and time_s <= self._last[1]):
            self.replaced += 1
            if expected_s is None:
                raise SourceError(
                    f"frame {index} has no usable time stamp and the stream states no frame rate; "
                    "put it in a container that does, such as .mkv"
                )
            if (
                time_s is not None
                and self._last is not None
                and self._last[1] - time_s > _NEW_COUNT_S
            ):
                assert stamp_s is not None
                self._origin_s = stamp_s - expected_s
            time_s = expected_s
        self._last = (index, time_s)
        return time_s

    def _expected_s(self, index: int) -> float | None:
        """The time of frame `index` by the rate; None if there is none."""
        if self._last is None:
            return 0.0
        last_index, last_s = self._last
        return last_s + self._interval_s * (index - last_index) if self._interval_s else None
