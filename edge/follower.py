"""One source under recognition: its frames' labels, and the actions that start and end in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge.events import EventRules, EventTracker
from edge.listener import Listener, Notice
from edge.report import summary_record
from edge.runtime import Label, Recogniser, RunConfig
from edge.source import Source
from edge.supervisor import Supervised


@dataclass
class Follower:
    """listeners: told each label, then the actions that start or end with it."""

    source: Source | Supervised
    recogniser: Recogniser
    tracker: EventTracker
    listeners: list[Listener]

    @property
    def name(self) -> str:
        return self.recogniser.name

    def show(self, label: Label) -> None:
        if label.decision is None:  # after a gap, as at the start
            events = self.tracker.clear()
        else:
            events = self.tracker.push(label.frame.time_s, label.decision.scores)
        for listener in self.listeners:
            listener.show(label)
        for event in events:
            tell(self.listeners, event)

    def change(self, rules: EventRules, config: RunConfig) -> None:
        """Go on by other rules; what is under way by the old ones ends."""
        for event in self.tracker.clear():
            tell(self.listeners, event)
        manifest = self.recogniser.manifest
        threshold = manifest.fusion.threshold
        self.tracker = EventTracker(self.name, manifest.classes, threshold, rules)
        self.recogniser.change(config)

    def end(self, device: str) -> dict[str, Any]:
        """Nothing more comes of the source: the summary of what did."""
        for event in self.tracker.clear():
            tell(self.listeners, event)
        for listener in self.listeners:
            listener.end(self.name)
        self.recogniser.feed.close()
        source = self.source
        return summary_record(
            self.recogniser, device, source.dropped, source.expected_frames, source.warnings
        )


def tell(listeners: list[Listener], notice: Notice) -> None:
    for listener in listeners:
        listener.tell(notice)
