"""Waiting for a state. A test never measures how long that takes: the bound ends what hangs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

BOUND_S = 120.0
Found = TypeVar("Found")


def wait_until(ask: Callable[[], Found], pause_s: float = 0.02) -> Found:
    """Ask again and again until the answer is true, and give it. Fails after BOUND_S."""
    deadline_s = time.monotonic() + BOUND_S
    while not (found := ask()):
        assert time.monotonic() < deadline_s, f"it has not come to that; the last answer: {found!r}"
        time.sleep(pause_s)
    return found
