"""Counts and stage times of a source, in constant memory."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.decision.decide import Decision
from edge.decision.fusion import Scores
from edge.video.motion_vectors import MotionVectors


@dataclass
class VectorStatistics:
    """How much motion a codec has told. frames: with their own motion vectors. repeated: without,
    such as intra pictures, which took a neighbour's. coverage_sum: of the shares of the picture, 0
    to 1 each, that had a vector in `frames`."""

    frames: int = 0
    repeated: int = 0
    coverage_sum: float = 0.0

    def add(self, vectors: MotionVectors) -> None:
        """Add those of one frame."""
        if vectors.repeated:
            self.repeated += 1
        else:
            self.frames += 1
            self.coverage_sum += vectors.coverage

    def shares(self) -> dict[str, float] | None:
        """The mean coverage, and the share of frames without vectors of their own; None if there
        was no frame."""
        total = self.frames + self.repeated
        if not total:
            return None
        coverage = self.coverage_sum / max(self.frames, 1)
        return {"coverage": round(coverage, 4), "repeated": round(self.repeated / total, 4)}


@dataclass
class RunStatistics:
    """Counts and stage times of a source, updated while it runs.

    frames: submitted to the device. skipped: because they came too soon. gaps: discontinuities.
    decisions: labels with a decision. standby: labels without one because the networks paused.
    began_s: monotonic time of the start. seconds: how long the run took, once it has ended.
    last_time_s: stream time of the last frame. stages_ms: by stage. shown: how many
    decisions showed each label, "unknown" included. vectors: of the frames. fused_sum: of the fused
    scores of all decisions, (C,); None before the first.
    """

    frames: int = 0
    skipped: int = 0
    gaps: int = 0
    decisions: int = 0
    standby: int = 0
    began_s: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    last_time_s: float = 0.0
    stages_ms: dict[str, Histogram] = field(default_factory=dict)
    shown: Counter[str] = field(default_factory=Counter)
    vectors: VectorStatistics = field(default_factory=VectorStatistics)
    fused_sum: NDArray[np.float64] | None = None

    def add_stages(self, stages_ms: dict[str, float]) -> None:
        """Add the stage times of one frame, in milliseconds, by stage."""
        for name, milliseconds in stages_ms.items():
            self.stages_ms.setdefault(name, Histogram()).add(milliseconds)

    def add_decision(self, decision: Decision, fused: Scores) -> None:
        """Add one decision, and the fused scores (C,) of its frame alone."""
        self.shown[decision.label] += 1
        total = np.zeros(fused.shape) if self.fused_sum is None else self.fused_sum
        self.fused_sum = total + fused
        self.decisions += 1


# From a stage on a GPU to a frame that waits for a slow processor.
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class StageTimes:
    """The times of a stage. count: how often it ran. total_s: of all runs together. at_most: how
    many runs took at most each of BUCKETS_S, in order."""

    count: int
    total_s: float
    at_most: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SourceStatistics:
    """A snapshot of the counts and stage times of a source, for outputs.

    received: frames from the source. labelled: labels with a decision. dropped: frames that a newer
    one replaced before they were read. damaged: frames that could not be decoded. gaps:
    discontinuities. standby: labels without a decision because the networks paused. stages: by
    name. lost: how many frames, lines or messages of it outputs have lost, by their names.
    """

    source: str
    received: int
    labelled: int
    dropped: int
    damaged: int
    gaps: int
    standby: int
    stages: Mapping[str, StageTimes]
    lost: Mapping[str, int] = field(default_factory=dict)


class Histogram:
    """A histogram of milliseconds, from 1 us to 100 s in bins that are 2 % wide. Its memory is
    constant; quantiles are at most 2 % too large."""

    EDGES = np.geomspace(1e-3, 1e5, int(np.log(1e8) / np.log(1.02)))
    _EDGES = EDGES.tolist()  # a list is searched ten times as fast for one number

    def __init__(self) -> None:
        self.counts = np.zeros(len(self.EDGES) + 1, np.int64)
        self.total, self.largest = 0.0, 0.0

    def add(self, milliseconds: float) -> None:
        """Add one time."""
        self.counts[bisect_left(self._EDGES, milliseconds)] += 1
        self.total += milliseconds
        self.largest = max(self.largest, milliseconds)

    @property
    def mean(self) -> float:
        """The mean in milliseconds; 0 if there are no entries."""
        return self.total / max(int(self.counts.sum()), 1)

    def times(self) -> StageTimes:
        """A summary, in seconds. Times within 2 % of a bucket's bound may be in the next one."""
        cumulative = np.cumsum(self.counts)
        # the bins whose upper edge is no later than the bound
        bins = np.searchsorted(self.EDGES, np.multiply(BUCKETS_S, 1e3), side="right")
        at_most = tuple(int(cumulative[index - 1]) for index in bins)
        return StageTimes(int(cumulative[-1]), self.total / 1e3, at_most)

    def quantile(self, share: float) -> float:
        """The time in milliseconds below which `share` (0..1) of the entries are; 0 if there are
        none."""
        cumulative = np.cumsum(self.counts)
        if cumulative[-1] == 0:
            return 0.0
        index = int(np.searchsorted(cumulative, share * cumulative[-1]))
        return float(self.EDGES[min(index, len(self.EDGES) - 1)])
