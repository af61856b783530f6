"""The terminal that a person may be looking at: one console on stderr, and progress bars on it.

What is logged goes through the same console (edge/log.py), so that lines come above a bar.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from edge.text import LineConsole

T = TypeVar("T")


@cache
def stderr_console() -> LineConsole:
    """The one console: two would draw over each other."""
    return LineConsole(stderr=True)


def progress_bar(*columns: ProgressColumn) -> Progress:
    """A bar that goes when it is done, and is not there where stderr is no terminal."""
    console = stderr_console()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def track(iterable: Iterable[T], description: str, total: int) -> Iterator[T]:
    """The items, with a bar that shows how many of `total` have come."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with progress_bar(*columns) as bar:
        yield from bar.track(iterable, total=total, description=description)
