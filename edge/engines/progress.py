"""A build takes minutes: what it is at, and how to stop it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from types import ModuleType
from typing import Any, TypeVar

Built = TypeVar("Built")
PERIOD_S = 0.2
LINE_EVERY_S = 15.0


def watch_build(
    trt: ModuleType, settings: Any, build: Callable[[], Built], say: Callable[[str], None]
) -> Built:
    """Run a build beside this thread, which stays awake for Ctrl-C, and return its result.

    say: gets a line now and then, with the phase from TensorRT 10 on, which is the first to tell.
    TensorRT's phases are no measure of time, so no share is made of them. An exception in this
    thread, KeyboardInterrupt above all, stops the build.
    """
    monitor = _make_monitor(trt) if hasattr(settings, "progress_monitor") else None
    if monitor is not None:
        settings.progress_monitor = monitor
    started = told = time.perf_counter()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(build)
        try:
            while not wait([future], PERIOD_S).done:
                now = time.perf_counter()
                if now - told >= LINE_EVERY_S:
                    told = now
                    phase = "" if monitor is None else monitor.phase
                    say(f"building for {now - started:.0f} s{phase}")
        except BaseException:
            if monitor is not None:
                monitor.stopped = True
            raise
        return future.result()


def _make_monitor(trt: ModuleType) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined, misc]
        """phase: the one that last went on, as the end of a line."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped = False
            self.phase = ""
            self._steps: dict[str, int] = {}

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._steps[name] = steps

        def step_complete(self, name: str, step: int) -> bool:
            self.phase = f", {name.lower()}, step {step + 1} of {self._steps.get(name, 0)}"
            return not self.stopped

        def phase_finish(self, name: str) -> None:
            self._steps.pop(name, None)

    return Monitor()
