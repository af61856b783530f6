"""Imports without looking for garbage meanwhile."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """What imports create stays. Python would look through it for garbage again and again, which
    takes a sixth of the time of a run's imports, and later in each full collection: what is there
    at the end is left out of those."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
