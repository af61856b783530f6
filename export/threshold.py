"""Fits the thresholds of `unknown` on every frame of the live chain, and measures what they reach.

A label depends on the frames before it, so clips are replayed as a run sees them: the window, the
hold of a label that is shown, and the rules of events are those of edge/decision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from edge.bundle.manifest import DecisionSpec, Footage, Rate, Reached
from edge.decision.events import EventRules, EventTracker
from edge.decision.fusion import Scores, ScoreWindow
from edge.decision.open_set import next_shown, open_set_scores, raw_scores, summed, threshold_of
from export.measure import Moments

INTERVAL = 0.95  # of what is reported beside a rate
CLASS_SHARE = 0.8  # of the highest threshold of a class, below which none is; see docs/figures.md
_DIGITS = 4  # of a threshold
_NEVER = 1e6  # a threshold that no margin reaches


@dataclass(frozen=True, slots=True)
class Replay:
    """A clip as a run sees it. times_s: of each moment, (frames,). evidence: means over the window,
    (frames, C). gaps: moments before which all is forgotten. truth: the index of its class; None
    if it shows none of them."""

    times_s: NDArray[np.float64]
    evidence: Scores
    gaps: frozenset[int]
    truth: int | None


def replays(moments: Moments, window_s: float) -> list[Replay]:
    """The clips of `moments`, with the evidence for a margin."""
    found = []
    for number, clip in enumerate(moments.clips):
        frames, window = clip.usable(moments.history), ScoreWindow(window_s)
        logits = {stream: values[number] for stream, values in moments.logits.items()}
        gaps = frozenset(i for i in range(1, len(frames)) if frames[i] != frames[i - 1] + 1)
        rows = []
        for place, values in enumerate(summed(logits)):
            if place in gaps:
                window.clear()
            rows.append(window.push(clip.times_s[frames[place]], values))
        times_s = np.array([clip.times_s[frame] for frame in frames])
        label, classes = clip.clip.label, moments.classes
        truth = classes.index(label) if label in classes else None
        found.append(Replay(times_s, np.stack(rows), gaps, truth))
    return found


def shown(clip: Replay, spec: DecisionSpec) -> NDArray[np.int64]:
    """The class whose label each moment shows, or -1, (frames,)."""
    current: int | None = None
    rows = []
    for place, scores in enumerate(open_set_scores(spec, clip.evidence)):
        if place in clip.gaps:
            current = None
        current = next_shown(current, scores, threshold_of(spec), spec.hold)
        rows.append(-1 if current is None else current)
    return np.array(rows, np.int64)


def events(clip: Replay, spec: DecisionSpec, classes: tuple[str, ...]) -> int:
    """How many actions a run would report, by the usual rules."""
    tracker = EventTracker("", classes, spec, EventRules())
    count = 0
    for place, scores in enumerate(open_set_scores(spec, clip.evidence)):
        if place in clip.gaps:
            tracker.clear()
        found = tracker.push(float(clip.times_s[place]), scores, scores)
        count += sum(event.kind == "start" for event in found)
    return count


def choose_threshold(spec: DecisionSpec, others: Sequence[Replay]) -> float:
    """The lowest threshold of `spec` at which at most its `false_alarm_rate` of the moments of
    other actions show a label; that of `spec` without any.

    Scores are not bounded, so there always is one; `reached` says what it costs. spec: with a
    threshold and a `false_alarm_rate`.
    """
    accepted, least = spec.false_alarm_rate, spec.threshold
    assert accepted is not None
    assert least is not None

    def holds(threshold: float) -> bool:
        tried = with_threshold(spec, threshold)
        return _share([shown(c, tried) >= 0 for c in others]) <= accepted

    scores = [raw_scores(spec.kind, clip.evidence).max(axis=1) for clip in others]
    return _lowest(np.concatenate(scores), holds) if scores else least


def silence(
    spec: DecisionSpec, footage: Sequence[Replay], classes: tuple[str, ...]
) -> DecisionSpec:
    """`spec` with the lowest threshold of each class at which nothing of it is reported in the
    footage, but none below CLASS_SHARE of the highest of them.

    What looks like one action need not look like another one: with one threshold for all, a film
    of a pianist hides the divers, too. Some minutes of footage cannot show that a class is never
    taken for something else, hence the bound.
    """
    least = spec.threshold
    assert least is not None
    found = []
    for number in range(len(classes)):
        seen = [(clip, raw_scores(spec.kind, clip.evidence)[:, number]) for clip in footage]
        loud = [(clip, scores) for clip, scores in seen if scores.max() >= least]

        def silent(threshold: float, number: int = number, loud: list[Any] = loud) -> bool:
            alone = [_NEVER] * len(classes)
            alone[number] = threshold
            tried = spec.model_copy(update={"class_thresholds": tuple(alone)})
            return not any(events(clip, tried, classes) for clip, _ in loud)

        scores = [scores[scores >= least] for _, scores in loud]
        found.append(_lowest(np.concatenate(scores), silent) if scores else least)
    bounded = with_threshold(spec, max(least, _above(CLASS_SHARE * max(found))))
    assert bounded.threshold is not None
    thresholds = tuple(max(each, bounded.threshold) for each in found)
    return bounded.model_copy(update={"class_thresholds": thresholds})


def with_threshold(spec: DecisionSpec, threshold: float) -> DecisionSpec:
    """`spec` with another threshold; that of no class is lower."""
    of_classes = spec.class_thresholds
    if of_classes is not None:
        of_classes = tuple(max(each, threshold) for each in of_classes)
    return spec.model_copy(update={"threshold": threshold, "class_thresholds": of_classes})


def _lowest(scores: Scores, holds: Callable[[float], bool]) -> float:
    """The lowest threshold that holds, which lies just above one of the scores (N,)."""
    candidates = sorted({_above(float(score)) for score in scores})
    low, high = 0, len(candidates) - 1  # the highest is above all scores
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(candidates[middle]) else (middle + 1, high)
    return candidates[low]


def raise_threshold(spec: DecisionSpec, own: Sequence[Replay]) -> float:
    """The middle between the threshold of `spec` and the highest that costs no moment its right
    label.

    The lowest threshold lies just above the few clips that it was chosen on. Where the scores of
    the bundle's actions are far above it, the next clip of something else should not show a label
    for a score that is a little higher. Raising one that all classes have takes no label from one
    class to another.
    """
    least = spec.threshold
    assert least is not None

    def right(threshold: float) -> int:
        tried = with_threshold(spec, threshold)
        return sum(int((shown(clip, tried) == clip.truth).sum()) for clip in own)

    labels = right(least)
    scores = [raw_scores(spec.kind, clip.evidence).max(axis=1) for clip in own]
    candidates = sorted({float(score) for score in np.concatenate(scores) if score >= least})
    low, high = 0, len(candidates)  # of the first that costs a label
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if right(candidates[middle]) >= labels else (low, middle)
    if not labels or not low:
        return least
    return max(least, float(f"{(least + candidates[low - 1]) / 2:.{_DIGITS}g}"))


def _above(score: float) -> float:
    """The next number above `score` that has _DIGITS digits."""
    step = 10.0 ** (np.floor(np.log10(max(score, 1e-3))) + 1 - _DIGITS)
    above = np.floor(score / step) * step
    # in float32, as scores are compared
    while np.float32(f"{above:.{_DIGITS}g}") <= np.float32(score):
        above += step
    return float(f"{above:.{_DIGITS}g}")


def reached(own: Sequence[Replay], others: Sequence[Replay], spec: DecisionSpec) -> Reached:
    """What a decision does on clips of the classes, and on others."""
    labels = [(clip.truth, shown(clip, spec)) for clip in own]
    return Reached(
        right=rate([found == truth for truth, found in labels]),
        wrong=rate([(found >= 0) & (found != truth) for truth, found in labels]),
        other=rate([shown(clip, spec) >= 0 for clip in others]),
    )


def count_events(clips: Sequence[Replay], spec: DecisionSpec, classes: tuple[str, ...]) -> Footage:
    """What a decision reports in video that shows none of the classes."""
    seconds = sum(float(clip.times_s[-1] - clip.times_s[0]) for clip in clips)
    found = sum(events(clip, spec, classes) for clip in clips)
    return Footage(videos=len(clips), seconds=round(seconds, 1), events=found)


def rate(hits: Sequence[NDArray[np.bool_]]) -> Rate:
    """The share of moments that are hits. hits: of each clip, (frames,).

    Moments of a clip are alike, so the interval is that of as many observations as there are clips
    (Clopper and Pearson, 1934), which is wider than if all moments were counted. No clip: 0 to 1.
    """
    clips, share = len(hits), _share(hits) if hits else 0.0
    tail, count = (1 - INTERVAL) / 2, share * clips
    low = float(beta.ppf(tail, count, clips - count + 1)) if count > 0 else 0.0
    high = float(beta.ppf(1 - tail, count + 1, clips - count)) if count < clips else 1.0
    moments = sum(len(each) for each in hits)
    return Rate(
        share=round(share, 4), low=round(low, 4), high=round(high, 4), moments=moments, clips=clips
    )


def _share(hits: Sequence[NDArray[np.bool_]]) -> float:
    return float(np.concatenate(hits).mean())
