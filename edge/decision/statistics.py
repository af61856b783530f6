"""Counts and stage times of a source, in constant memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.decision.fusion import Scores


@dataclass
class RunStatistics:
    """Counts and stage times of a source. Times are in histograms, so memory does not grow."""

    frames: int = 0
    skipped: int = 0
    gaps: int = 0
    decisions: int = 0
    standby: int = 0
    began_s: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    last_time_s: float = 0.0
    stages_ms: dict[str, Histogram] = field(default_factory=dict)
    fused_sum: NDArray[np.float64] | None = None

    def add_stages(self, stages_ms: dict[str, float]) -> None:
        for name, milliseconds in stages_ms.items():
            self.stages_ms.setdefault(name, Histogram()).add(milliseconds)

    def add_fused(self, scores: Scores) -> None:
        total = np.zeros(scores.shape) if self.fused_sum is None else self.fused_sum
        self.fused_sum = total + scores
        self.decisions += 1


@dataclass(frozen=True, slots=True)
class StageTimes:
    """How often a stage has run, its total time, and quantiles of a single time."""

    count: int
    total_s: float
    p50_s: float
    p95_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class SourceStatistics:
    """A snapshot of a source's counts and stage times. stages: by name."""

    source: str
    received: int
    labelled: int
    dropped: int
    damaged: int
    gaps: int
    standby: int
    stages: Mapping[str, StageTimes]


class Histogram:
    """Milliseconds in bins 2 % wide from 1 us to 100 s: quantiles to 1 % in constant memory."""

    EDGES = np.geomspace(1e-3, 1e5, int(np.log(1e8) / np.log(1.02)))

    def __init__(self) -> None:
        self.counts = np.zeros(len(self.EDGES) + 1, np.int64)
        self.total, self.largest = 0.0, 0.0

    def add(self, milliseconds: float) -> None:
        self.counts[int(np.searchsorted(self.EDGES, milliseconds))] += 1
        self.total += milliseconds
        self.largest = max(self.largest, milliseconds)

    @property
    def mean(self) -> float:
        """0 if there are no entries."""
        return self.total / max(int(self.counts.sum()), 1)

    def times(self) -> StageTimes:
        p50_s, p95_s, p99_s = (self.quantile(share) / 1e3 for share in (0.5, 0.95, 0.99))
        return StageTimes(int(self.counts.sum()), self.total / 1e3, p50_s, p95_s, p99_s)

    def quantile(self, share: float) -> float:
        """The value below which `share` of the entries lie; 0 if there are none."""
        cumulated = np.cumsum(self.counts)
        if cumulated[-1] == 0:
            return 0.0
        index = int(np.searchsorted(cumulated, share * cumulated[-1]))
        return float(self.EDGES[min(index, len(self.EDGES) - 1)])
