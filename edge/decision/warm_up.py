"""Whether frames come often enough, judged from their own indices and times alone."""

from __future__ import annotations

from edge.video.frames import Frame

JUDGED_S = 5.0  # stream time over which a rate is measured
# A camera that gives fewer or more frames than these shares of what it states is named. A camera of
# 30 that runs at 25, against the flicker of lamps, is not; one that halves its rate at night is.
_STATED_SHARES = (0.7, 1.4)


class WarmUp:
    """Measures frames while there are no labels yet, and explains why it takes so long.

    history: flows that a label needs, between frames at most max_gap_s apart.
    """

    def __init__(self, history: int, max_gap_s: float) -> None:
        self._max_gap_s = max_gap_s
        # the slowest frames that are close enough fill the history in this time
        self._bound_s = max(JUDGED_S, 2 * history * max_gap_s)
        self.restart()

    def restart(self) -> None:
        """Measure from the next frame on: there was a label, or the camera was lost."""
        self._first: tuple[int, float] | None = None
        self._last = (0, 0.0)
        self._frames = 0
        self._widest_s = 0.0

    def push(self, frame: Frame) -> None:
        """A frame whose flow is computed; those that were dropped are known from its index."""
        place = (frame.index, frame.time_s)
        if self._first is None:
            self._first = place
        else:
            self._widest_s = max(self._widest_s, frame.time_s - self._last[1])
        self._last = place
        self._frames += 1

    @property
    def overdue(self) -> bool:
        """Whether the history should be full by now."""
        return self._first is not None and self._last[1] - self._first[1] >= self._bound_s

    def explain(self, max_fps: float | None) -> str:
        """Which rate is too low, in numbers; "" if none is. max_fps: of the run's configuration."""
        span_s = 0.0 if self._first is None else self._last[1] - self._first[1]
        if self._first is None or span_s <= 0:
            return ""
        came_fps = (self._last[0] - self._first[0]) / span_s
        seen_fps = (self._frames - 1) / span_s
        least_fps = 1 / self._max_gap_s
        needed = f"at least {least_fps:.3g} are needed"
        if came_fps < least_fps:
            return f"it gives {came_fps:.3g} frames a second; {needed}"
        if seen_fps < least_fps:
            of = f"{seen_fps:.3g} of its {came_fps:.3g} frames a second"
            if max_fps is not None and max_fps < least_fps:
                return f"--max-fps leaves {of}; {needed}"
            return f"this machine keeps up with {of}; {needed}"
        if self._widest_s > self._max_gap_s:
            return (
                f"its frames come up to {self._widest_s:.3g} s apart; at most "
                f"{self._max_gap_s:.3g} s are allowed"
            )
        return ""


class StatedRate:
    """Compares the rate of a camera with the one that it states, and says once if they differ."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None
        self._told = False

    def push(self, frame: Frame, stated_fps: float | None) -> str | None:
        """What to say after this frame, if anything. stated_fps: None if it states none."""
        if self._told or stated_fps is None:
            return None
        if self._first is None or frame.discontinuity:
            self._first = (frame.index, frame.time_s)
        first_index, first_s = self._first
        span_s = frame.time_s - first_s
        if span_s < JUDGED_S:
            return None
        self._first = (frame.index, frame.time_s)
        measured_fps = (frame.index - first_index) / span_s
        lowest, highest = (share * stated_fps for share in _STATED_SHARES)
        if lowest <= measured_fps <= highest:
            return None
        self._told = True
        return (
            f"it gives {measured_fps:.3g} frames a second, but states {stated_fps:.3g}; check its "
            "exposure, its settings and the network"
        )
