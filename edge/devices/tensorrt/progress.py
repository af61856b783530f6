"""Progress of a build, which takes minutes, and Ctrl-C to stop it."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

logger = logging.getLogger(__name__)

REPORT_EVERY_S = 15.0


@contextmanager
def watch_build(trt: ModuleType, builder_config: Any, name: str) -> Iterator[None]:
    """Log the phase and step of a build every REPORT_EVERY_S seconds. Run the build in the block,
    in the same thread. Ctrl-C stops the build and raises KeyboardInterrupt at the end of the block.

    name: of the network. No percentage is logged, since steps differ in length. Before TensorRT 10,
    which brought progress callbacks, nothing is logged and Ctrl-C waits for the build.
    """
    if not hasattr(builder_config, "progress_monitor"):
        yield
        return
    monitor = _monitor_class(trt)(name)
    builder_config.progress_monitor = monitor
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, monitor.interrupt) if in_main_thread else None
    try:
        yield
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)
    if monitor.error is not None:
        raise monitor.error


@cache
def _monitor_class(trt: ModuleType) -> type:
    """One class per tensorrt module, since TensorRT's binding keeps every class that it sees."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined, misc]
        """error: the exception that stops the build, kept here because TensorRT cannot pass it on
        to the caller."""

        def __init__(self, name: str) -> None:
            trt.IProgressMonitor.__init__(self)
            self.error: BaseException | None = None
            self._name = name
            self._steps: dict[str, int] = {}
            self._started = self._reported = time.perf_counter()

        def interrupt(self, *_: object) -> None:
            self.error = KeyboardInterrupt()

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._steps[name] = steps

        def step_complete(self, name: str, step: int) -> bool:
            now = time.perf_counter()
            if now - self._reported >= REPORT_EVERY_S:
                self._reported = now
                self._report(now, f"{name.lower()}, step {step + 1} of {self._steps.get(name, 0)}")
            return self.error is None

        def phase_finish(self, name: str) -> None:
            self._steps.pop(name, None)

        def _report(self, now: float, phase: str) -> None:
            try:
                seconds = now - self._started
                logger.info("%s: building for %.0f s, %s", self._name, seconds, phase)
            except BaseException as error:  # from a log handler
                self.error = self.error or error

    return Monitor
