"""One source of a run: passes its labels and events on to the outputs."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edge.decision.events import Event, EventRules, EventTracker
from edge.decision.label import Label
from edge.decision.recognizer import Recognizer, RunConfig
from edge.decision.statistics import SourceStatistics
from edge.decision.warm_up import StatedRate
from edge.outputs.base import Output
from edge.outputs.records import stage_order, summary_record
from edge.sources.camera_view import CameraView
from edge.sources.source import Source
from edge.video.frames import Frame

logger = logging.getLogger(__name__)

_STATISTICS_S = 0.5  # between two snapshots: about as often as the page asks; 1 ms of work a second


@dataclass
class SourceRun:
    """outputs: they get each label, then the events that start or end with it. warnings: about its
    rate, each once."""

    source: Source | CameraView
    recognizer: Recognizer
    tracker: EventTracker
    outputs: Sequence[Output]
    warnings: list[str] = field(default_factory=list)
    _stated_rate: StatedRate = field(default_factory=StatedRate)
    _slow: bool = False  # whether it was said why there is no label
    _snapshot_s: float = 0.0  # when the last one was taken

    @property
    def name(self) -> str:
        return self.recognizer.name

    def check_rate(self, frame: Frame) -> None:
        """Warn once of a camera whose rate is not what it states."""
        if text := self._stated_rate.push(frame, self.source.frame_rate):
            self._warn(text)

    def on_label(self, label: Label) -> None:
        if label.reason and not self._slow:
            self._slow = True
            self._warn(f"no labels: {label.reason}")
        if label.decision is None:  # after a gap, as at the start
            events = self.tracker.clear()
        else:
            decision = label.decision
            events = self.tracker.push(label.frame.time_s, decision.open_set, decision.scores)
        for output in self.outputs:
            output.on_label(label)
        self._emit(events)

    def tick(self) -> None:
        """Called often, also while no frame comes: pass on the counts now and then."""
        now_s = time.monotonic()
        if now_s - self._snapshot_s >= _STATISTICS_S:
            self._snapshot_s = now_s
            self._emit_statistics()

    def change(self, rules: EventRules, config: RunConfig) -> None:
        """Apply other rules. An action that started under the old ones ends."""
        self._emit(self.tracker.clear())
        manifest = self.recognizer.manifest
        self.tracker = EventTracker(self.name, manifest.classes, manifest.decision, rules)
        self.recognizer.change(config)

    def use(self, recognizer: Recognizer, rules: EventRules) -> None:
        """Go on with a recognizer of another bundle. Counts go on; an action that is going on
        ends."""
        recognizer.statistics = self.recognizer.statistics
        self.recognizer.context.close()
        self.recognizer = recognizer
        self.change(rules, recognizer.config)

    def end(self, device: str, summarise: bool) -> dict[str, Any] | None:
        """Close the source and return its summary, if it is to have one."""
        self._emit(self.tracker.clear())
        self._emit_statistics()
        self.recognizer.context.close()
        source, summary = self.source, None
        if summarise:
            warnings = [*source.warnings, *self.warnings]
            summary = summary_record(self.recognizer, device, source, warnings, self._lost())
        for output in self.outputs:
            output.end(self.name, summary)
        return summary

    def _warn(self, text: str) -> None:
        line = f"{self.name}: {text}"
        self.warnings.append(line)
        logger.warning("%s", line)

    def _emit(self, events: list[Event]) -> None:
        for event in events:
            for output in self.outputs:
                output.on_event(event)

    def _lost(self) -> dict[str, int]:
        """What outputs have lost of this source so far, by their names."""
        healths = [output.health for output in self.outputs if output.health is not None]
        return {each.name: lost for each in healths if (lost := each.lost(self.name))}

    def _emit_statistics(self) -> None:
        counts, source = self.recognizer.statistics, self.source
        order = stage_order(counts.stages_ms, self.recognizer.manifest.streams)
        snapshot = SourceStatistics(
            source=self.name,
            received=source.received,
            labelled=counts.decisions,
            dropped=source.dropped,
            damaged=source.damaged,
            gaps=counts.gaps,
            standby=counts.standby,
            stages={name: counts.stages_ms[name].times() for name in order},
            lost=self._lost(),
        )
        for output in self.outputs:
            output.on_statistics(snapshot)
