"""Consoles that show untrusted text, the one on stderr and its progress bars.

Log records use the same console (edge/log.py), so that lines appear above a bar.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from edge.text import printable

T = TypeVar("T")


class LineConsole(Console):
    """A terminal to which each text is one line, shown as it is: no escape, markup or emoji code in
    it counts."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:  # type: ignore[override]
        """Every text that is printed, and every cell of a table, comes through here."""
        return super().render_str(printable(text), **options)


@cache
def stderr_console() -> LineConsole:
    """The only console on stderr; two would draw over each other."""
    return LineConsole(stderr=True)


def print_styled(text: str, style: str) -> None:
    """Lines on stderr's console, above a bar if there is one."""
    stderr_console().print(Text(text, style=style), soft_wrap=True)


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
