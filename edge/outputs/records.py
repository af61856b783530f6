"""What a run says: one record a label, one at the end, and the table that a person reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.table import Table

from edge.decision.events import Event
from edge.decision.fusion import Scores, decide
from edge.decision.label import Label
from edge.decision.recognizer import Recognizer
from edge.sources.reconnect import SourceState

TOP = 5
# "queue": from the decoder to its turn; "host": what the CPU does for a frame of the GPU;
# "wait": for the networks, which run beside the loop
STAGES = (
    "decode",
    "queue",
    "host",
    "resize",
    "flow",
    "stack",
    "spatial",
    "temporal",
    "scores",
    "wait",
    "fusion",
    "output",
    "latency",
)


def label_record(label: Label, classes: tuple[str, ...]) -> dict[str, Any]:
    """One JSON line: see the README for every field."""
    decision = label.decision
    return {
        "source": label.source,
        "frame": label.frame.index,
        "time": round(label.frame.time_s, 4),
        "state": label.state,
        "label": decision.label if decision else None,
        "score": round(decision.score, 4) if decision else None,
        "top": [[n, round(s, 4)] for n, s in decision.top(classes, TOP)] if decision else [],
        "spatial": best(label.spatial, classes),
        "temporal": best(label.temporal, classes),
        "latency_ms": round(label.latency_ms, 2),
    }


def event_record(event: Event) -> dict[str, Any]:
    """One JSON line: the start or end of an action."""
    return {
        "source": event.source,
        "event": event.kind,
        "label": event.label,
        "started": round(event.started_s, 4),
        "time": round(event.time_s, 4),
        "score": event.score,
    }


def state_record(state: SourceState) -> dict[str, Any]:
    """One JSON line: a camera runs or is lost, a source has failed."""
    return {
        "source": state.name,
        "source_state": state.state,
        "reason": state.reason,
        "failures": state.failures,
    }


def best(scores: Scores | None, classes: tuple[str, ...]) -> tuple[str, float] | None:
    """The best of scores (C,), by class and rounded."""
    if scores is None:
        return None
    index = int(np.argmax(scores))
    return classes[index], round(float(scores[index]), 4)


def summary_record(
    recognizer: Recognizer, device: str, dropped: int, expected: int | None, warnings: list[str]
) -> dict[str, Any]:
    """A source's last JSON line. `label` and `score` are those of the mean fused scores."""
    statistics, manifest = recognizer.statistics, recognizer.manifest
    frames = statistics.frames + statistics.skipped
    summary: dict[str, Any] = {
        "source": recognizer.name,
        "bundle": manifest.name,
        "device": device,
        "frames": frames,
        "expected_frames": expected,
        "dropped": dropped,
        "skipped": statistics.skipped,
        "gaps": statistics.gaps,
        "decisions": statistics.decisions,
        "standby": statistics.standby,
        "seconds": round(statistics.seconds, 3),
        "fps": round(frames / statistics.seconds, 2) if statistics.seconds else None,
        "label": None,
        "score": None,
        "top": [],
        "stages_ms": {
            name: {
                "p50": round(statistics.stages_ms[name].quantile(0.5), 3),
                "p95": round(statistics.stages_ms[name].quantile(0.95), 3),
            }
            for name in STAGES
            if name in statistics.stages_ms
        },
        "warnings": warnings,
    }
    if statistics.fused_sum is not None:
        mean = (statistics.fused_sum / statistics.decisions).astype(np.float32)
        whole = decide(mean, manifest.classes, manifest.fusion.threshold)
        summary["label"], summary["score"] = whole.label, round(whole.score, 4)
        summary["top"] = [[n, round(s, 4)] for n, s in whole.top(manifest.classes, TOP)]
    return summary


def summary_table(summary: dict[str, Any]) -> Table:
    """The same for a person."""
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    table.add_column("stage")
    table.add_column("p50 ms", justify="right")
    table.add_column("p95 ms", justify="right")
    for name, times in summary["stages_ms"].items():
        table.add_row(name, f"{times['p50']:.2f}", f"{times['p95']:.2f}")
    return table


def summary_lines(summary: dict[str, Any]) -> list[str]:
    """Label, frames and rate in a line or two."""
    counts = [f"{summary['frames']} frames"]
    if summary["expected_frames"]:
        counts[0] += f" of {summary['expected_frames']}"
    counts += [
        f"{summary[key]} {text}"
        for key, text in (
            ("dropped", "dropped"),
            ("skipped", "passed over"),
            ("gaps", "gaps"),
            ("standby", "without motion"),
        )
        if summary[key] or key == "dropped"
    ]
    lines = [
        f"{', '.join(counts)}, {summary['fps'] or 0:.1f} frames a second on {summary['device']}"
    ]
    if summary["label"] is not None:
        score = f"{summary['score']:.2f}"
        guess = "" if summary["label"] != "unknown" else f", best guess {summary['top'][0][0]}"
        lines.insert(0, f"whole clip: {summary['label']} ({score}{guess})")
    return lines
