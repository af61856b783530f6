"""Labels frames: source -> device -> fusion -> outputs. In order, causal, with bounded memory.

A camera's frames are labelled one by one. For a file some frames are in flight, so that the
networks run while the flow of the next frame is computed; the labels are the same, at a higher
rate.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edge.bundle.manifest import Manifest
from edge.decision.decide import Decision, DecisionWindow
from edge.decision.fuser import open_fuser
from edge.decision.fusion import Logits, Scores
from edge.decision.label import RUNNING, STANDBY, WARMING_UP, Label
from edge.decision.statistics import RunStatistics
from edge.decision.warm_up import WarmUp
from edge.devices import InferenceFuture, SourceContext
from edge.devices.inference import StatefulNetwork
from edge.errors import BundleError, ConfigError, SourceError
from edge.inputs.pace import MAX_GAP_S, Pace, pace
from edge.motion.quantise import FlowBytes, moving_share
from edge.spec import Spec
from edge.video.frames import Frame

# The share of pixels that must move by a pixel or more to count as motion, which keeps a run out of
# standby: an arm that waves in the distance is enough. Noise with a deviation of 8 levels on a
# textured picture, or 4 on a flat one, stays below it; with a limit of half a pixel, 2 levels of
# noise in the dark did not.
MOVING_SHARE = 0.002


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Which frames are labelled.

    every: the networks run on every N-th frame; flow is computed on all. max_frames: 0 is no limit.
    max_fps: frames above this rate are skipped; None: none. standby_after_s: the networks pause
    after no motion for this long; None: never.
    """

    every: int = 1
    max_frames: int = 0
    max_fps: float | None = None
    standby_after_s: float | None = None

    def check(self, manifest: Manifest) -> None:
        """Raises ConfigError for what this bundle cannot do."""
        if self.standby_after_s is not None and not manifest.motions:
            raise ConfigError(
                f"--standby-after: {manifest.name} does not use motion; leave the option out"
            )


@dataclass(frozen=True, slots=True)
class Submitted:
    """A frame in flight. infer: whether the networks run on it; emit: whether it gets a label;
    after_gap: whether it is the first after a gap."""

    frame: Frame
    future: InferenceFuture
    infer: bool
    emit: bool
    after_gap: bool


class Recognizer:
    """Labels the frames of one source; holds the state between frames.

    network: of the bundle's fusion, shared by all sources; None if its fusion has none.
    """

    def __init__(
        self,
        manifest: Manifest,
        context: SourceContext,
        config: RunConfig,
        name: str = "",
        network: StatefulNetwork | None = None,
    ) -> None:
        self.manifest, self.context, self.config, self.name = manifest, context, config, name
        self.statistics = RunStatistics()
        self._warm_up = WarmUp(manifest.history, MAX_GAP_S)
        self._fuser = open_fuser(manifest, network)
        self._window = DecisionWindow(manifest.decision, manifest.classes)
        self._last_time_s: float | None = None
        self._due_s = -np.inf  # frames before this stream time are skipped
        self._moved_s: float | None = None  # stream time of the last motion; None: not known yet
        self._standby = False

    def change(self, config: RunConfig) -> None:
        """Use another configuration from the next frame on."""
        self.config = config
        self._standby, self._due_s = False, -np.inf

    def submit(self, frame: Frame) -> Submitted | None:
        """Start processing a frame; None if it is skipped because it came too soon."""
        statistics = self.statistics
        follows = pace(self._last_time_s, frame, self.manifest.interval_s)
        if follows is Pace.TOO_SOON or self._is_not_due(frame):
            statistics.skipped += 1
            return None
        if frame.discontinuity or (self._last_time_s or 0.0) > frame.time_s:
            self._warm_up.restart()
        self._warm_up.push(frame)
        if follows is Pace.AFTER_GAP:
            statistics.gaps += 1
            self.context.clear()
            self._standby = False
        self._last_time_s = frame.time_s
        if self.config.max_fps is not None:
            period_s = 1 / self.config.max_fps
            self._due_s = max(self._due_s, frame.time_s - period_s) + period_s
        emit = statistics.frames % self.config.every == 0
        infer = emit and not self._standby
        statistics.frames += 1
        if frame.vectors is not None:
            statistics.vectors.add(frame.vectors)
        after_gap = follows is Pace.AFTER_GAP
        return Submitted(frame, self.context.submit(frame, infer), infer, emit, after_gap)

    def label(self, submitted: Submitted) -> Label | None:
        """Wait for the label of a submitted frame; None if it gets none."""
        frame = submitted.frame
        waited_from = time.monotonic()
        inference = submitted.future.result()
        flows = submitted.future.flows()
        if submitted.after_gap:  # not earlier: frames before the gap were still in flight
            self._reset(None)
        if self.config.standby_after_s is not None:
            self._update_standby(frame.time_s, flows, self.config.standby_after_s)
        if not submitted.emit:
            return None
        started = time.monotonic()
        if inference is None:
            latency_ms = (started - frame.arrived_s) * 1e3
            if not submitted.infer:
                self.statistics.standby += 1
                return Label(self.name, frame, STANDBY, None, {}, None, latency_ms)
            reason = self._warm_up.explain(self.config.max_fps) if self._warm_up.overdue else ""
            return Label(self.name, frame, WARMING_UP, None, {}, None, latency_ms, reason)
        self._warm_up.restart()
        scores = self._fuser.push(frame.time_s, inference.logits)
        decision = self._decide(frame.time_s, inference.logits, scores.fused)
        ended = time.monotonic()
        latency_ms = (ended - frame.arrived_s) * 1e3
        self.statistics.add_stages(
            inference.stages_ms
            | {
                "wait": (started - waited_from) * 1e3,
                "fusion": (ended - started) * 1e3,
                "latency": latency_ms,
            }
        )
        flow = next(iter(flows.values()), None)
        return Label(self.name, frame, RUNNING, decision, scores.streams, flow, latency_ms)

    def missing_labels(self) -> str | None:
        """Why no frame has had a label so far, in one line; None if one has."""
        statistics, needed = self.statistics, self.manifest.history + 1
        if statistics.decisions:
            return None
        if statistics.standby:
            return "nothing moved, so the networks were on standby (--standby-after)"
        if reason := self._warm_up.explain(self.config.max_fps):
            return reason
        if statistics.frames < needed:
            return f"{statistics.frames} frames were read; this bundle needs {needed} in a row"
        if self.config.every > 1:
            return f"--every {self.config.every} leaves none after the first {needed} frames"
        return f"there were never {needed} frames in a row, between {statistics.gaps} gaps"

    def _is_not_due(self, frame: Frame) -> bool:
        """Whether --max-fps leaves this frame out."""
        last_s = self._last_time_s
        if last_s is None or frame.discontinuity or frame.time_s <= last_s:
            return False
        return frame.time_s < self._due_s - 1e-3

    def _update_standby(
        self, time_s: float, flows: Mapping[Spec, FlowBytes], standby_after_s: float
    ) -> None:
        if not flows:
            return
        moving = any(moving_share(flow, spec) >= MOVING_SHARE for spec, flow in flows.items())  # type: ignore[arg-type]
        if self._moved_s is None or moving:
            self._moved_s, self._standby = time_s, False
        elif not self._standby and time_s - self._moved_s >= standby_after_s:
            self._reset(self._moved_s)
            self._standby = True

    def _reset(self, moved_s: float | None) -> None:
        """Forget earlier frames, which say nothing about later ones."""
        self._fuser.clear()
        self._window.clear()
        self._moved_s, self._standby = moved_s, False

    def _decide(self, time_s: float, logits: Mapping[str, Logits], fused: Scores) -> Decision:
        if not np.isfinite(fused).all():
            raise BundleError(
                f"{self.manifest.name}: its networks give scores that are not finite; check the "
                "bundle with `twostream verify`"
            )
        decision = self._window.push(time_s, logits, fused)
        self.statistics.add_decision(decision, fused)
        return decision


def label_video(
    frames: Iterable[Frame], recognizer: Recognizer, emit: Callable[[Label], None]
) -> None:
    """Label the frames of a file and pass the labels to `emit`, in order.

    Raises SourceError if the file has fewer frames than the networks need.
    """
    statistics = recognizer.statistics
    limit = recognizer.config.max_frames
    decode_from = time.monotonic()
    waiting: deque[Submitted] = deque()
    for frame in frames:
        statistics.add_stages({"decode": (time.monotonic() - decode_from) * 1e3})
        submitted = recognizer.submit(frame)
        if submitted is not None:
            if len(waiting) == recognizer.context.depth - 1:
                finish(recognizer, waiting.popleft(), emit)
            waiting.append(submitted)
        statistics.last_time_s = frame.time_s
        if limit and statistics.frames >= limit:
            break
        decode_from = time.monotonic()
    while waiting:
        finish(recognizer, waiting.popleft(), emit)
    statistics.seconds = time.monotonic() - statistics.began_s
    needed = recognizer.manifest.history + 1
    if statistics.frames < needed and not limit:
        skipped = (
            f" ({statistics.skipped} came too soon after others)" if statistics.skipped else ""
        )
        raise SourceError(
            f"{recognizer.name} has {statistics.frames} frames{skipped}; this bundle needs {needed}"
        )


def label_frame(frame: Frame, recognizer: Recognizer, emit: Callable[[Label], None]) -> None:
    """Label one frame of a camera and pass the label to `emit` before returning."""
    statistics = recognizer.statistics
    statistics.add_stages({"queue": (time.monotonic() - frame.arrived_s) * 1e3})
    submitted = recognizer.submit(frame)
    if submitted is not None:
        finish(recognizer, submitted, emit)
    statistics.last_time_s = frame.time_s


def finish(recognizer: Recognizer, submitted: Submitted, emit: Callable[[Label], None]) -> None:
    """Wait for a frame's label and pass it to `emit`."""
    label = recognizer.label(submitted)
    if label is None:
        return
    before = time.monotonic()
    emit(label)
    recognizer.statistics.add_stages({"output": (time.monotonic() - before) * 1e3})
