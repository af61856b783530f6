"""What a person at the terminal sees: lines of what happens, and how far it is."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from types import TracebackType

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from edge.events import Event
from edge.follower import Follower
from edge.listener import Listener, Notice
from edge.runtime import RUNNING, Label
from edge.supervisor import CameraState
from edge.terminal import progress_bar

logger = logging.getLogger(__name__)


class Said(Listener):
    """What a person should know while it runs: cameras that are lost and come back."""

    def __init__(self) -> None:
        self._lost_s: dict[str, float] = {}

    def tell(self, notice: Notice) -> None:
        if isinstance(notice, Event):
            return
        if notice.state == "running":
            lost_s = self._lost_s.pop(notice.name, None)
            if lost_s is not None:
                away_s = time.monotonic() - lost_s
                logger.info("%s: running again after %.1f s", notice.name, away_s)
        elif notice.state == "lost":
            self._lost_s.setdefault(notice.name, time.monotonic())
            if notice.failures & (notice.failures - 1) == 0:  # the first, second, fourth, ...
                logger.warning("lost: %s; next try in %.1f s", notice.reason, notice.retry_s)


class Progressing(Listener):
    """A bar for the file that is read, one line for each camera; nothing where nobody looks."""

    def __init__(self, classes: tuple[str, ...], followers: Mapping[str, Follower]) -> None:
        width = max(len(name) for name in classes) + 5
        self._followers = followers
        self._tasks: dict[str, TaskID] = {}
        self._progress = progress_bar(
            SpinnerColumn(),
            TextColumn(f"{{task.description:{width}}}", markup=False),
            BarColumn(),
            TimeRemainingColumn(),
            MofNCompleteColumn(),
        )

    def __enter__(self) -> Progressing:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, label: Label) -> None:
        source = self._followers[label.source].source
        text: str = label.state
        if label.decision is not None and label.state == RUNNING:
            text = f"{label.decision.label} {label.decision.score:.2f}"
        if source.live:
            text += f"  {label.latency_ms:.0f} ms, {source.dropped} dropped"
        self._update(label.source, text, label.frame.index + 1)

    def tell(self, notice: Notice) -> None:
        if isinstance(notice, CameraState) and notice.state == "lost":
            self._update(notice.name, "camera lost", None)

    def end(self, source: str) -> None:
        task = self._tasks.pop(source, None)
        if task is not None:
            self._progress.remove_task(task)

    def _update(self, source: str, text: str, completed: int | None) -> None:
        follower = self._followers.get(source)
        if follower is None:
            return
        if len(self._followers) > 1:
            text = f"{source}: {text}"
        if source not in self._tasks:
            total = follower.source.expected_frames
            self._tasks[source] = self._progress.add_task(text, total=total)
        self._progress.update(self._tasks[source], description=text, completed=completed)
