"""What signals ask of a run: to stop, or to read its options again."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

Handler = Callable[[int, FrameType | None], None]


@dataclass
class SignalRequests:
    """Set by signal handlers, read by the run's loop."""

    stop: bool = False
    reload: bool = False

    def request_stop(self, _number: int, _frame: FrameType | None) -> None:
        """The second time, raises KeyboardInterrupt."""
        if self.stop:
            raise KeyboardInterrupt
        self.stop = True

    def request_reload(self, _number: int, _frame: FrameType | None) -> None:
        self.reload = True

    def hang_up(self, _number: int, _frame: FrameType | None) -> None:
        """The terminal was closed."""
        self.stop = True


@contextmanager
def handle_signals(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Install signal handlers for the block, and put the earlier ones back."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
