"""The console on stderr and its progress bars.

Log records use the same console (edge/log.py), so that lines appear above a bar.
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
    """The only console on stderr; two would draw over each other."""
    return LineConsole(stderr=True)


def progress_bar(*columns: ProgressColumn) -> Progress:
    """A bar that disappears when it is done; none if stderr is not a terminal."""
    console = stderr_console()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def track(iterable: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield the items and show how many of `total` are done."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with progress_bar(*columns) as bar:
        yield from bar.track(iterable, total=total, description=description)
