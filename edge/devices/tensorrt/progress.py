"""A build takes minutes: what it is at, and how to stop it."""

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

LINE_EVERY_S = 15.0


@contextmanager
def watch_build(trt: ModuleType, settings: Any, name: str) -> Iterator[None]:
    """For as long as a build runs, in this thread, tell now and then TensorRT's phase and its step
    (they are no measure of time, so no share is made of them) under the network's name; Ctrl-C
    stops it: KeyboardInterrupt then comes at the end of the block.

    TensorRT calls back from 10 on; before, nothing is said and Ctrl-C waits for the build.
    """
    if not hasattr(settings, "progress_monitor"):
        yield
        return
    monitor = _monitor_class(trt)(name)
    settings.progress_monitor = monitor
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, monitor.interrupt) if in_main else None
    try:
        yield
    finally:
        if in_main:
            signal.signal(signal.SIGINT, before)
    if monitor.fault is not None:
        raise monitor.fault


@cache
def _monitor_class(trt: ModuleType) -> type:
    """One class for a module, since TensorRT's binding remembers those that it has met."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined, misc]
        """fault: what ends the build. No exception may go through TensorRT, so it waits here."""

        def __init__(self, name: str) -> None:
            trt.IProgressMonitor.__init__(self)
            self.fault: BaseException | None = None
            self._name = name
            self._steps: dict[str, int] = {}
            self._started = self._told = time.perf_counter()

        def interrupt(self, *_: object) -> None:
            self.fault = KeyboardInterrupt()

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._steps[name] = steps

        def step_complete(self, name: str, step: int) -> bool:
            now = time.perf_counter()
            if now - self._told >= LINE_EVERY_S:
                self._told = now
                self._tell(now, f"{name.lower()}, step {step + 1} of {self._steps.get(name, 0)}")
            return self.fault is None

        def phase_finish(self, name: str) -> None:
            self._steps.pop(name, None)

        def _tell(self, now: float, phase: str) -> None:
            try:
                seconds = now - self._started
                logger.info("%s: building for %.0f s, %s", self._name, seconds, phase)
            except BaseException as error:  # of a handler of somebody's own
                self.fault = self.fault or error

    return Monitor
