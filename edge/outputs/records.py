"""The records of a run: labels, events, states and summaries as JSON, and the summary as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from edge.bundle.manifest import Manifest
from edge.decision.decide import UNKNOWN, Decision
from edge.decision.events import Event
from edge.decision.fusion import Scores, top_scores
from edge.decision.label import Label
from edge.decision.recognizer import Recognizer
from edge.outputs.health import OutputState
from edge.sources.camera_view import CameraView
from edge.sources.reconnect import SourceState
from edge.sources.source import Source
from edge.text import counted

TOP = 5
SHARES = 3  # labels of the summary's line
# "queue": waiting after the decoder; "host": CPU work for a frame on the GPU. Then the networks, by
# stream name; "wait": waiting for the networks, which run in parallel.
_STAGES_BEFORE = ("decode", "queue", "host", "resize", "flow", "stack")
_STAGES_AFTER = ("scores", "wait", "fusion", "output", "latency")


def stage_order(stages: Iterable[str], streams: Iterable[str]) -> list[str]:
    """The measured stages in the order they run. streams: stream names, in order."""
    measured = set(stages)
    return [s for s in (*_STAGES_BEFORE, *streams, *_STAGES_AFTER) if s in measured]


def label_record(label: Label, manifest: Manifest) -> dict[str, Any]:
    """One JSON line: see docs/cameras-and-outputs.md for every field."""
    decision, classes = label.decision, manifest.classes
    return {
        "source": label.source,
        "frame": label.frame.index,
        "time": round(label.frame.time_s, 4),
        "state": label.state,
        "label": decision.label if decision else None,
        "score": round(decision.score, 4) if decision else None,
        "open_set": open_set_record(decision, classes),
        "top": top_scores(decision.scores, classes, TOP) if decision else [],
        "streams": {name: best(label.streams.get(name), classes) for name in manifest.streams},
        "latency_ms": round(label.latency_ms, 2),
    } | ({"reason": label.reason} if label.reason else {})


def open_set_record(decision: Decision | None, classes: Sequence[str]) -> dict[str, Any] | None:
    """The score that decided, whose it is, and what it had to reach; None if the bundle always
    shows its best class. The class need not be the one with the best confidence."""
    if decision is None or decision.threshold is None:
        return None
    score, threshold = decision.open_set[decision.best], decision.threshold
    return {
        "label": classes[decision.best],
        "score": round(float(score), 4),
        "threshold": round(threshold, 4),
    }


def event_record(event: Event) -> dict[str, Any]:
    """One JSON line: the start or end of an action."""
    return {
        "id": event.id,
        "source": event.source,
        "event": event.kind,
        "label": event.label,
        "started": round(event.started_s, 4),
        "time": round(event.time_s, 4),
        "score": event.score,
    }


def state_record(state: SourceState) -> dict[str, Any]:
    """One JSON line: a camera is running or lost, or a source has failed."""
    return {
        "id": state.id,
        "source": state.name,
        "source_state": state.state,
        "reason": state.reason,
        "failures": state.failures,
    }


def output_record(state: OutputState) -> dict[str, Any]:
    """One JSON line: an output works, or does not."""
    return {
        "id": state.id,
        "output": state.name,
        "output_state": state.state,
        "reason": state.reason,
        "lost": state.lost,
    }


def best(scores: Scores | None, classes: tuple[str, ...]) -> tuple[str, float] | None:
    """The best class of scores (C,) and its rounded score."""
    return None if scores is None else top_scores(scores, classes, 1)[0]


def summary_record(
    recognizer: Recognizer,
    device: str,
    source: Source | CameraView,
    warnings: list[str],
    lost: Mapping[str, int],
) -> dict[str, Any]:
    """A source's last JSON line. `label` is what most of its moments show, `moments` the share of
    them; `score` and `top` come from the mean of its fused scores. lost: see SourceStatistics."""
    statistics, manifest = recognizer.statistics, recognizer.manifest
    frames = statistics.frames + statistics.skipped
    summary: dict[str, Any] = {
        "source": recognizer.name,
        "bundle": manifest.name,
        "device": device,
        "frames": frames,
        "expected_frames": source.expected_frames,
        "dropped": source.dropped,
        "damaged": source.damaged,
        "skipped": statistics.skipped,
        "gaps": statistics.gaps,
        "decisions": statistics.decisions,
        "standby": statistics.standby,
        "vectors": statistics.vectors.shares(),
        "lost": dict(lost),
        "seconds": round(statistics.seconds, 3),
        "fps": round(frames / statistics.seconds, 2) if statistics.seconds else None,
        "label": None,
        "score": None,
        "moments": {},
        "top": [],
        "no_label": recognizer.missing_labels(),
        "stages_ms": {
            name: {
                "p50": round(statistics.stages_ms[name].quantile(0.5), 3),
                "p95": round(statistics.stages_ms[name].quantile(0.95), 3),
            }
            for name in stage_order(statistics.stages_ms, manifest.streams)
        },
        "warnings": warnings,
    }
    if statistics.fused_sum is not None:
        mean = (statistics.fused_sum / statistics.decisions).astype(np.float32)
        moments, classes = statistics.shown.most_common(), manifest.classes
        summary["label"] = moments[0][0]
        summary["moments"] = {n: round(c / statistics.decisions, 4) for n, c in moments}
        best = mean.argmax() if moments[0][0] == UNKNOWN else classes.index(moments[0][0])
        summary["score"] = round(float(mean[best]), 4)
        summary["top"] = top_scores(mean, classes, TOP)
    return summary


def stage_lines(summary: dict[str, Any]) -> list[str]:
    """The stage times of a summary as the lines of a table; none where nothing was measured."""
    stages = summary["stages_ms"]
    if not stages:
        return []
    width = max(len(name) for name in (*stages, "stage"))
    rows = [
        f"{name:{width}}  {times['p50']:>6.2f}  {times['p95']:>6.2f}"
        for name, times in stages.items()
    ]
    return [f"{'stage':{width}}  p50 ms  p95 ms", *rows]


def summary_lines(summary: dict[str, Any], live: bool) -> list[str]:
    """Label, frames and frame rate in one or two lines. live: the source is a camera."""
    counts = [counted(summary["frames"], "frame")]
    if summary["expected_frames"]:
        counts[0] += f" of {summary['expected_frames']}"
    counts += [
        text
        for key, text in (
            ("dropped", f"{summary['dropped']} dropped"),
            ("damaged", f"{summary['damaged']} damaged"),
            ("skipped", f"{summary['skipped']} skipped"),
            ("gaps", counted(summary["gaps"], "gap")),
            ("standby", f"{summary['standby']} without motion"),
        )
        if summary[key] or key == "dropped"
    ]
    lines = [
        f"{', '.join(counts)}, {summary['fps'] or 0:.1f} frames a second on {summary['device']}"
    ]
    if (vectors := summary["vectors"]) is not None:
        lines.append(
            f"motion vectors: of {vectors['coverage']:.0%} of the picture; "
            f"{vectors['repeated']:.0%} of the frames had none and repeated a neighbour's"
        )
    if summary["label"] is not None:
        shares = [f"{name} {share:.0%}" for name, share in summary["moments"].items()]
        what = "whole run" if live else "whole clip"
        lines.insert(0, f"{what}: {summary['label']} (moments: {', '.join(shares[:SHARES])})")
    if summary["no_label"] is not None:
        lines.insert(0, f"no label was given: {summary['no_label']}")
    return lines
