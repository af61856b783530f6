"""The loop: source -> device -> fusion -> sinks. One frame after another, causal, bounded.

A live source is answered frame by frame. A file keeps one frame in flight, so that the networks of
one frame run while the flow of the next is measured; labels are the same, only sooner.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.bundle import Manifest
from edge.devices import Device, Pending
from edge.errors import SourceError
from edge.flow.stack import FlowBytes
from edge.frames import Frame
from edge.fusion import Decision, Scores, ScoreWindow, decide, temper

State = Literal["warming up", "running"]
WARMING_UP: State = "warming up"
RUNNING: State = "running"

# A pair of frames further apart than this has no motion worth the name: start afresh.
MAX_GAP_S = 0.25
# Frames that come faster than this share of the flow's interval are passed over: at 60 frames a
# second a stack would span less than half the time that the network was trained on.
MIN_INTERVAL_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Label:
    """What is said of one frame.

    decision, spatial, temporal: None while warming up. flow: (2, H, W) uint8, for a picture of it.
    latency_ms: from the frame's arrival to this label.
    """

    frame: Frame
    state: State
    decision: Decision | None
    spatial: Scores | None
    temporal: Scores | None
    flow: FlowBytes | None
    latency_ms: float


@dataclass
class RunStatistics:
    """Counts and stage times of a run. Times are kept in fixed bins, so weeks cost no memory."""

    frames: int = 0
    passed_over: int = 0
    gaps: int = 0
    decisions: int = 0
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


class Histogram:
    """Milliseconds in bins 2 % wide, from 1 us to 100 s: quantiles to 1 %, at a fixed size."""

    _EDGES = np.geomspace(1e-3, 1e5, int(np.log(1e8) / np.log(1.02)))

    def __init__(self) -> None:
        self._counts = np.zeros(len(self._EDGES) + 1, np.int64)

    def add(self, milliseconds: float) -> None:
        self._counts[int(np.searchsorted(self._EDGES, milliseconds))] += 1

    def quantile(self, share: float) -> float:
        """The value below which `share` of the entries lie; 0 when there are none."""
        cumulated = np.cumsum(self._counts)
        if cumulated[-1] == 0:
            return 0.0
        index = int(np.searchsorted(cumulated, share * cumulated[-1]))
        return float(self._EDGES[min(index, len(self._EDGES) - 1)])


@dataclass(frozen=True, slots=True)
class RunConfig:
    """every: the networks run on each N-th frame, flow is measured on all. max_frames: 0 is all."""

    every: int = 1
    max_frames: int = 0


@dataclass(frozen=True, slots=True)
class Submitted:
    """A frame under way. infer: whether the networks were asked for; arrived: perf_counter()."""

    frame: Frame
    pending: Pending
    infer: bool
    arrived: float


class Recogniser:
    """Labels from frames: holds what must be remembered from one frame to the next."""

    def __init__(self, manifest: Manifest, device: Device, config: RunConfig) -> None:
        self.manifest, self.device, self.config = manifest, device, config
        self.statistics = RunStatistics()
        self._window = ScoreWindow(manifest.fusion.window_s)
        self._last_time_s: float | None = None

    def submit(self, frame: Frame, arrived: float) -> Submitted | None:
        """Start on a frame; None when it is passed over because it came too soon."""
        since = None if self._last_time_s is None else frame.time_s - self._last_time_s
        if (
            since is not None
            and not frame.cut
            and 0 < since < MIN_INTERVAL_SHARE * self.manifest.flow.interval_s
        ):
            self.statistics.passed_over += 1
            return None
        if since is not None and (frame.cut or not 0 < since <= MAX_GAP_S):
            self.statistics.gaps += 1
            self.device.clear()
            self._window.clear()
        self._last_time_s = frame.time_s
        infer = self.statistics.frames % self.config.every == 0
        self.statistics.frames += 1
        return Submitted(frame, self.device.submit(frame, infer), infer, arrived)

    def label(self, submitted: Submitted) -> Label | None:
        """The label of a submitted frame; None where no network was asked for."""
        frame, arrived = submitted.frame, submitted.arrived
        inference = submitted.pending.result()
        if not submitted.infer:
            return None
        started = time.perf_counter()
        if inference is None:
            latency_ms = (started - arrived) * 1e3
            return Label(frame, WARMING_UP, None, None, None, None, latency_ms)
        decision = self._decide(frame.time_s, inference.fused)
        ended = time.perf_counter()
        latency_ms = (ended - arrived) * 1e3
        self.statistics.add_stages(
            inference.stages_ms | {"fusion": (ended - started) * 1e3, "latency": latency_ms}
        )
        spatial, temporal, flow = inference.spatial, inference.temporal, inference.flow
        return Label(frame, RUNNING, decision, spatial, temporal, flow, latency_ms)

    def _decide(self, time_s: float, fused: Scores) -> Decision:
        spec = self.manifest.fusion
        tempered = temper(fused, spec.temperature)
        self.statistics.add_fused(tempered)
        scores = self._window.push(time_s, tempered)
        return decide(scores, self.manifest.classes, spec.threshold)


def recognise(
    frames: Iterable[Frame], live: bool, recogniser: Recogniser, emit: Callable[[Label], None]
) -> None:
    """Label every frame that the networks are asked for, and hand the labels to `emit`, in order.

    Raises SourceError when the frames of a file end before the first stack of flows is full.
    """
    statistics = recogniser.statistics
    limit = recogniser.config.max_frames
    started = asked = time.perf_counter()
    waiting: Submitted | None = None

    def finish(submitted: Submitted) -> None:
        label = recogniser.label(submitted)
        if label is None:
            return
        before = time.perf_counter()
        emit(label)
        statistics.add_stages({"output": (time.perf_counter() - before) * 1e3})

    for frame in frames:
        arrived = time.perf_counter()
        statistics.add_stages({"decode": (arrived - asked) * 1e3})
        submitted = recogniser.submit(frame, arrived)
        if submitted is not None:
            if waiting is not None:
                finish(waiting)
            waiting = submitted
            if live:
                finish(waiting)
                waiting = None
        statistics.last_time_s = frame.time_s
        if limit and statistics.frames >= limit:
            break
        asked = time.perf_counter()
    if waiting is not None:
        finish(waiting)
    statistics.seconds = time.perf_counter() - started
    needed = recogniser.manifest.temporal.stack + 1
    if statistics.frames < needed and not limit and not live:
        raise SourceError(
            f"has {statistics.frames} frames; a stack of {needed - 1} flows needs {needed}"
        )
