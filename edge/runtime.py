"""Labels from frames: source -> device -> fusion -> sinks. One after another, causal, bounded.

A camera is answered frame by frame. A file keeps some frames in flight, so that the networks of one
frame run while the flow of the next is measured; labels are the same, only more of them a second.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.bundle import Manifest
from edge.devices import Feed, Pending
from edge.errors import BundleError, SourceError
from edge.flow.stack import FlowBytes, moving_share
from edge.frames import Frame
from edge.fusion import Decision, Scores, ScoreWindow, decide, temper

State = Literal["warming up", "running", "idle"]
WARMING_UP: State = "warming up"
RUNNING: State = "running"
IDLE: State = "idle"

# A pair of frames further apart than this has no motion worth the name: start afresh.
MAX_GAP_S = 0.25
# Frames that come faster than this share of the flow's interval are passed over: at 60 frames a
# second a stack would span less than half the time that the network was trained on.
MIN_INTERVAL_SHARE = 0.6
# So much of the picture has to move, by a pixel or more, for the networks not to rest where they
# may: an arm that waves in the distance does. Noise with a deviation of 8 levels on a textured
# picture, or of 4 on a flat one, stays below it; at half a pixel 2 levels in the dark did not.
MOVING_SHARE = 0.002


@dataclass(frozen=True, slots=True)
class Label:
    """What is said of one frame.

    source: its name. decision, spatial, temporal: None while warming up or idle. flow: (2, H, W)
    uint8, for a picture of it. latency_ms: from the frame's arrival to this label.
    """

    source: str
    frame: Frame
    state: State
    decision: Decision | None
    spatial: Scores | None
    temporal: Scores | None
    flow: FlowBytes | None
    latency_ms: float


@dataclass
class RunStatistics:
    """Counts and stage times of a source. Times are kept in fixed bins, so weeks cost no memory."""

    frames: int = 0
    passed_over: int = 0
    gaps: int = 0
    decisions: int = 0
    rested: int = 0
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
    """How often a stage has run, how long altogether, and the quantiles of one time."""

    count: int
    total_s: float
    p50_s: float
    p95_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class SourceStatistics:
    """Counts and stage times of a source at one moment. stages: by name."""

    source: str
    received: int
    labelled: int
    dropped: int
    damaged: int
    gaps: int
    rested: int
    stages: Mapping[str, StageTimes]


class Histogram:
    """Milliseconds in bins 2 % wide, from 1 us to 100 s: quantiles to 1 %, at a fixed size."""

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
        """0 where there are no entries."""
        return self.total / max(int(self.counts.sum()), 1)

    def times(self) -> StageTimes:
        p50_s, p95_s, p99_s = (self.quantile(share) / 1e3 for share in (0.5, 0.95, 0.99))
        return StageTimes(int(self.counts.sum()), self.total / 1e3, p50_s, p95_s, p99_s)

    def quantile(self, share: float) -> float:
        """The value below which `share` of the entries lie; 0 when there are none."""
        cumulated = np.cumsum(self.counts)
        if cumulated[-1] == 0:
            return 0.0
        index = int(np.searchsorted(cumulated, share * cumulated[-1]))
        return float(self.EDGES[min(index, len(self.EDGES) - 1)])


@dataclass(frozen=True, slots=True)
class RunConfig:
    """every: the networks run on each N-th frame, flow is measured on all. max_frames: 0 is all.
    max_fps: frames that come faster are passed over; None takes all. idle_s: the networks rest once
    the flow has shown no motion for so long; None never.
    """

    every: int = 1
    max_frames: int = 0
    max_fps: float | None = None
    idle_s: float | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    """A frame under way. infer: whether the networks were asked for; wanted: whether a label is."""

    frame: Frame
    pending: Pending
    infer: bool
    wanted: bool


class Recogniser:
    """One source's labels: holds what must be remembered from one frame to the next."""

    def __init__(self, manifest: Manifest, feed: Feed, config: RunConfig, name: str = "") -> None:
        self.manifest, self.feed, self.config, self.name = manifest, feed, config, name
        self.statistics = RunStatistics()
        self._window = ScoreWindow(manifest.fusion.window_s)
        self._last_time_s: float | None = None
        self._due_s = -np.inf  # before that time a frame comes too fast
        self._moved_s: float | None = None  # when there was motion last, or none is known yet
        self._resting = False

    def change(self, config: RunConfig) -> None:
        """Look at frames by another configuration from the next one on."""
        self.config = config
        self._resting, self._due_s = False, -np.inf

    def submit(self, frame: Frame) -> Submitted | None:
        """Start on a frame; None when it is passed over because it came too soon."""
        statistics = self.statistics
        since = None if self._last_time_s is None else frame.time_s - self._last_time_s
        if since is not None and not frame.cut and since > 0 and self._comes_too_fast(frame, since):
            statistics.passed_over += 1
            return None
        if since is not None and (frame.cut or not 0 < since <= MAX_GAP_S):
            statistics.gaps += 1
            self.feed.clear()
            self._rest(None)
        self._last_time_s = frame.time_s
        if self.config.max_fps is not None:
            period_s = 1 / self.config.max_fps
            self._due_s = max(self._due_s, frame.time_s - period_s) + period_s
        wanted = statistics.frames % self.config.every == 0
        infer = wanted and not self._resting
        statistics.frames += 1
        return Submitted(frame, self.feed.submit(frame, infer), infer, wanted)

    def label(self, submitted: Submitted) -> Label | None:
        """The label of a submitted frame; None where none is wanted of it."""
        frame = submitted.frame
        asked = time.monotonic()
        inference = submitted.pending.result()
        flow = submitted.pending.flow()
        if self.config.idle_s is not None:
            self._look_for_motion(frame.time_s, flow, self.config.idle_s)
        if not submitted.wanted:
            return None
        started = time.monotonic()
        if inference is None:
            state = WARMING_UP if submitted.infer else IDLE
            self.statistics.rested += not submitted.infer
            latency_ms = (started - frame.arrived_s) * 1e3
            return Label(self.name, frame, state, None, None, None, None, latency_ms)
        decision = self._decide(frame.time_s, inference.fused)
        ended = time.monotonic()
        latency_ms = (ended - frame.arrived_s) * 1e3
        self.statistics.add_stages(
            inference.stages_ms
            | {
                "wait": (started - asked) * 1e3,
                "fusion": (ended - started) * 1e3,
                "latency": latency_ms,
            }
        )
        spatial, temporal = inference.spatial, inference.temporal
        return Label(self.name, frame, RUNNING, decision, spatial, temporal, flow, latency_ms)

    def _comes_too_fast(self, frame: Frame, since_s: float) -> bool:
        least_s = MIN_INTERVAL_SHARE * self.manifest.flow.interval_s
        return since_s < least_s or frame.time_s < self._due_s - 1e-3

    def _look_for_motion(self, time_s: float, flow: FlowBytes | None, idle_s: float) -> None:
        if flow is None:
            return
        if self._moved_s is None or moving_share(flow, self.manifest.flow) >= MOVING_SHARE:
            self._moved_s, self._resting = time_s, False
        elif not self._resting and time_s - self._moved_s >= idle_s:
            self._rest(self._moved_s)
            self._resting = True

    def _rest(self, moved_s: float | None) -> None:
        """What has been seen so far says nothing of what comes."""
        self._window.clear()
        self._moved_s, self._resting = moved_s, False

    def _decide(self, time_s: float, fused: Scores) -> Decision:
        spec = self.manifest.fusion
        if not np.isfinite(fused).all():
            raise BundleError(
                f"{self.manifest.name}: its networks give scores that are no numbers; see what "
                "`twostream verify` says of the bundle"
            )
        tempered = temper(fused, spec.temperature)
        self.statistics.add_fused(tempered)
        scores = self._window.push(time_s, tempered)
        return decide(scores, self.manifest.classes, spec.threshold)


def recognise(
    frames: Iterable[Frame], recogniser: Recogniser, emit: Callable[[Label], None]
) -> None:
    """Label every frame of a file that the networks are asked for, and hand the labels to `emit`,
    in order.

    Raises SourceError when the frames end before the first stack of flows is full.
    """
    statistics = recogniser.statistics
    limit = recogniser.config.max_frames
    asked = time.monotonic()
    waiting: deque[Submitted] = deque()
    for frame in frames:
        statistics.add_stages({"decode": (time.monotonic() - asked) * 1e3})
        submitted = recogniser.submit(frame)
        if submitted is not None:
            if len(waiting) == recogniser.feed.depth - 1:
                finish(recogniser, waiting.popleft(), emit)
            waiting.append(submitted)
        statistics.last_time_s = frame.time_s
        if limit and statistics.frames >= limit:
            break
        asked = time.monotonic()
    while waiting:
        finish(recogniser, waiting.popleft(), emit)
    statistics.seconds = time.monotonic() - statistics.began_s
    needed = recogniser.manifest.temporal.stack + 1
    if statistics.frames < needed and not limit:
        raise SourceError(
            f"{recogniser.name} has {statistics.frames} frames; a stack of {needed - 1} flows "
            f"needs {needed}"
        )


def answer(frame: Frame, recogniser: Recogniser, emit: Callable[[Label], None]) -> None:
    """Label a camera's frame, and hand the label to `emit` before the next frame is looked at."""
    statistics = recogniser.statistics
    statistics.add_stages({"queue": (time.monotonic() - frame.arrived_s) * 1e3})
    submitted = recogniser.submit(frame)
    if submitted is not None:
        finish(recogniser, submitted, emit)
    statistics.last_time_s = frame.time_s


def finish(recogniser: Recogniser, submitted: Submitted, emit: Callable[[Label], None]) -> None:
    """Wait for a frame's label and hand it to `emit`."""
    label = recogniser.label(submitted)
    if label is None:
        return
    before = time.monotonic()
    emit(label)
    recogniser.statistics.add_stages({"output": (time.monotonic() - before) * 1e3})
