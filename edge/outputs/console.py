"""Output to the terminal: log lines about cameras, and a progress bar."""

from __future__ import annotations

import logging
import time
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from edge.decision.label import RUNNING, Label
from edge.decision.statistics import SourceStatistics
from edge.outputs.base import Output, SourceInfo
from edge.outputs.health import OutputState
from edge.sources.reconnect import SourceState
from edge.terminal import progress_bar
from edge.text import printable

logger = logging.getLogger(__name__)


class ConsoleLog(Output):
    """Logs cameras that are lost and come back, and outputs that fail and work again."""

    def __init__(self) -> None:
        self._lost_s: dict[str, float] = {}
        self._failing: set[str] = set()  # names of outputs

    def on_source_state(self, state: SourceState) -> None:
        if state.state == "running":
            lost_s = self._lost_s.pop(state.name, None)
            if lost_s is not None:
                away_s = time.monotonic() - lost_s
                logger.info("%s: running again after %.1f s", state.name, away_s)
        elif state.state == "lost":
            self._lost_s.setdefault(state.name, time.monotonic())
            if state.failures & (state.failures - 1) == 0:  # the first, second, fourth, ...
                logger.warning("lost: %s; next try in %.1f s", state.reason, state.retry_s)

    def on_output_state(self, state: OutputState) -> None:
        if state.state == "failing":
            self._failing.add(state.name)
            logger.warning("%s: %s; the run goes on", state.name, state.reason)
        elif state.name in self._failing:
            self._failing.remove(state.name)
            logger.info("%s: works again; %d %s", state.name, state.lost, state.items)


class ProgressBar(Output):
    """A bar for the current file, or a line for each camera; nothing if stderr is no terminal."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        width = max(len(name) for name in classes) + 5
        self._sources: dict[str, SourceInfo] = {}
        self._dropped: dict[str, int] = {}
        self._tasks: dict[str, TaskID] = {}
        self._progress = progress_bar(
            SpinnerColumn(),
            TextColumn(f"{{task.description:{width}}}", markup=False),
            BarColumn(),
            TimeRemainingColumn(),
            MofNCompleteColumn(),
        )

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def close(self) -> None:
        self._progress.stop()

    def begin(self, source: SourceInfo) -> None:
        self._sources[source.name] = source

    def on_statistics(self, statistics: SourceStatistics) -> None:
        self._dropped[statistics.source] = statistics.dropped

    def on_label(self, label: Label) -> None:
        text = f"{label.state}: {label.reason}" if label.reason else str(label.state)
        if label.decision is not None and label.state == RUNNING:
            text = f"{label.decision.label} {label.decision.score:.2f}"
        if self._sources[label.source].live:
            dropped = self._dropped.get(label.source, 0)
            text += f"  {label.latency_ms:.0f} ms, {dropped} dropped"
        self._update(label.source, text, label.frame.index + 1)

    def on_source_state(self, state: SourceState) -> None:
        if state.state != "running":
            self._update(state.name, state.state, None)

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
        self._sources.pop(source, None)
        task = self._tasks.pop(source, None)
        if task is not None:
            self._progress.remove_task(task)

    def _update(self, source: str, text: str, completed: int | None) -> None:
        if len(self._sources) > 1:
            text = f"{source}: {text}"
        text = printable(text)
        if source not in self._tasks:
            total = self._sources[source].expected_frames
            self._tasks[source] = self._progress.add_task(text, total=total)
        self._progress.update(self._tasks[source], description=text, completed=completed)
