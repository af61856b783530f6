"""Turns scores over time into events: the start and end of actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edge.bundle.manifest import DecisionSpec
from edge.decision.fusion import Scores
from edge.decision.open_set import threshold_of
from edge.errors import SourceError
from edge.event_id import new_event_id


@dataclass(frozen=True, slots=True)
class EventRules:
    """When an action starts and ends.

    thresholds: minimum open-set scores of actions that do not use the bundle's threshold. release:
    an action ends when its score is more than this below its threshold (hysteresis), or less than
    the share `hold` of it in the manifest, whichever is lower. min_s: how many
    seconds the score must hold before the action is reported. cooldown_s: for how many seconds
    after its end the same action is not reported again. ignored: actions that are never reported.

    Of a bundle that always shows its best class, an action lasts for as long as it is the best.
    """

    thresholds: Mapping[str, float] = field(default_factory=dict)
    release: float = 0.1
    min_s: float = 0.3
    cooldown_s: float = 2.0
    ignored: frozenset[str] = frozenset()

    def check(self, classes: tuple[str, ...], spec: DecisionSpec) -> None:
        """Raises SourceError for a name that is not a class of the bundle, for a threshold that its
        scores cannot reach, and for one of a bundle that has none."""
        for name in (*self.thresholds, *sorted(self.ignored)):
            if name not in classes:
                raise SourceError(
                    f"{name!r} is not an action of this bundle; its actions: {', '.join(classes)}"
                )
        for name, threshold in self.thresholds.items():
            if spec.kind == "best":
                raise SourceError(
                    f"--threshold {name}={threshold:g}: this bundle has no threshold, it always "
                    "shows its best class; --ignore leaves actions out"
                )
            if spec.kind == "confidence" and threshold > 1:
                raise SourceError(
                    f"--threshold {name}={threshold:g}: the scores of this bundle end at 1"
                )


def parse_thresholds(texts: list[str]) -> dict[str, float]:
    """Parse minimum scores such as "Diving=0.9", by action. Raises SourceError if a text is not
    ACTION=SCORE with a score from 0 to 100."""
    thresholds = {}
    for text in texts:
        label, equals, score = text.rpartition("=")
        try:
            thresholds[label] = float(score)
        except ValueError:
            equals = ""
        if not equals or not 0 <= thresholds[label] <= 100:
            raise SourceError(f"--threshold {text}: give ACTION=SCORE, the score from 0 to 100")
    return thresholds


@dataclass(frozen=True, slots=True)
class Event:
    """The start or end of an action.

    source: its name. label: the action. started_s: stream time at which its score reached the
    threshold. time_s: stream time of this event. score: the action's highest confidence so far,
    0..1. id: the same in every output and at every delivery.
    """

    source: str
    kind: Literal["start", "end"]
    label: str
    started_s: float
    time_s: float
    score: float
    id: str = field(default_factory=new_event_id, compare=False)


@dataclass(slots=True)
class _Action:
    """The current action. index: of its class. since_s: stream time at which its score reached the
    threshold. score: the highest confidence so far. reported: whether its start event was
    returned."""

    index: int
    since_s: float
    score: float
    reported: bool = False


class EventTracker:
    """Tracks one action at a time: the best of those above their thresholds."""

    def __init__(
        self, source: str, classes: tuple[str, ...], spec: DecisionSpec, rules: EventRules
    ) -> None:
        """source: its name. spec: of the bundle. Raises SourceError if the rules do not fit it."""
        rules.check(classes, spec)
        self._source, self._classes, self._rules = source, classes, rules
        usual = threshold_of(spec)
        self._thresholds = np.array([rules.thresholds.get(name, usual) for name in classes])
        self._holds = np.minimum(self._thresholds * spec.hold, self._thresholds - rules.release)
        self._best_alone = spec.kind == "best"
        self._enabled = np.array([name not in rules.ignored for name in classes])
        self._action: _Action | None = None
        self._cooldown_until_s: dict[int, float] = {}
        self._last_s = 0.0

    def push(self, time_s: float, scores: Scores, confidences: Scores) -> list[Event]:
        """Add open-set scores (C,) and the confidences (C,) beside them at a stream time in
        seconds, which must rise. Returns the events that they cause, ends before starts."""
        self._last_s = time_s
        if self._best_alone:  # or the best of the others would be reported beside an ignored action
            scores = np.where(np.arange(len(scores)) == scores.argmax(), scores, -np.inf)
        events: list[Event] = []
        best = self._best(scores)
        action = self._action
        if action is not None:
            held = scores[action.index] >= self._holds[action.index]
            replaced = best is not None and best != action.index
            if not held or replaced:
                events += self._end(time_s)
        action = self._action
        if action is None and best is not None:
            action = self._action = _Action(best, time_s, 0.0)
        if action is None:
            return events
        action.score = max(action.score, float(confidences[action.index]))
        cooling = time_s < self._cooldown_until_s.get(action.index, -np.inf)
        if not action.reported and not cooling and time_s - action.since_s >= self._rules.min_s:
            action.reported = True
            events.append(self._event("start", action, time_s))
        return events

    def clear(self) -> list[Event]:
        """End the current action at the time of the last scores, after a gap or at the end of the
        stream. Returns its end event, if it was reported."""
        return self._end(self._last_s)

    def _best(self, scores: Scores) -> int | None:
        """The best of the enabled classes that reach their thresholds."""
        above = self._enabled & (scores >= self._thresholds)
        return int(np.where(above, scores, -1.0).argmax()) if above.any() else None

    def _end(self, time_s: float) -> list[Event]:
        """Forget the current action. Returns its end event, if it was reported."""
        action, self._action = self._action, None
        if action is None or not action.reported:
            return []
        self._cooldown_until_s[action.index] = time_s + self._rules.cooldown_s
        return [self._event("end", action, time_s)]

    def _event(self, kind: Literal["start", "end"], action: _Action, time_s: float) -> Event:
        label = self._classes[action.index]
        return Event(self._source, kind, label, action.since_s, time_s, round(action.score, 4))
