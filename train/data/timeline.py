"""The times of a clip's frames, and where they do not follow one another closely enough."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from edge.inputs.pace import MAX_GAP_S, Pace, pace
from edge.video.frames import Frame


@dataclass(frozen=True, slots=True)
class Timeline:
    """times_s: of each frame that is used. gaps: indices of the frames before which all earlier
    ones are forgotten, as in a run."""

    times_s: tuple[float, ...]
    gaps: tuple[int, ...] = ()

    def usable(self, history: int) -> list[int]:
        """The frames that have `history` frames before them without a gap."""
        bounds = [0, *self.gaps, len(self.times_s)]
        return [i for begin, end in pairwise(bounds) for i in range(begin + history, end)]

    def begin(self, index: int) -> int:
        """The first frame from which on there is no gap before frame `index`."""
        return max((gap for gap in self.gaps if gap <= index), default=0)

    def fault(self, history: int) -> str | None:
        """Why these frames give no input that needs `history` frames before its newest; None: they
        do."""
        if self.usable(history):
            return None
        count, needed = len(self.times_s), history + 1
        if count < needed:
            return f"{count} frames; an input needs {needed}"
        longest_s = max(after - before for before, after in pairwise(self.times_s))
        return (
            f"its frames are up to {longest_s:.2f} s apart; an input needs {needed} in a row that "
            f"are at most {MAX_GAP_S} s apart"
        )


class Pacer:
    """Chooses a clip's frames as a run would. interval_s: between frames in training."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._times_s: list[float] = []
        self._gaps: list[int] = []

    def take(self, frame: Frame) -> bool:
        """Whether this frame is used; it follows those of earlier calls."""
        follows = pace(self._times_s[-1] if self._times_s else None, frame, self._interval_s)
        if follows is Pace.TOO_SOON:
            return False
        if follows is Pace.AFTER_GAP:
            self._gaps.append(len(self._times_s))
        self._times_s.append(frame.time_s)
        return True

    def timeline(self) -> Timeline:
        return Timeline(tuple(self._times_s), tuple(self._gaps))


def timeline_of(frames: Iterable[Frame], interval_s: float) -> Timeline:
    """The timeline of a whole clip."""
    pacer = Pacer(interval_s)
    for frame in frames:
        pacer.take(frame)
    return pacer.timeline()
