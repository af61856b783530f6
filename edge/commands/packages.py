"""The commands that other packages add, as entry points of the group `twostream.commands`."""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edge.errors import ConfigError

Command = Callable[..., Any]


def load_command(entry: EntryPoint) -> Command:
    """The function of a command; where it cannot be imported, one that says so when called."""
    if entry.dist is not None and entry.dist.name == "twostream-edge":
        return entry.load()  # type: ignore[no-any-return]
    try:
        return entry.load()  # type: ignore[no-any-return]
    except Exception as error:  # whatever its import may raise
        fault = f"{entry.value} cannot be imported ({type(error).__name__}: {error})"

        def command() -> None:
            raise ConfigError(f"{entry.name}: {fault}; reinstall or remove its package")

        command.__doc__ = f"Not available: {fault}."
        return command


def listed_command(entry: EntryPoint) -> Command:
    """A function that stands for the command in a list of them: it has its help, which is read from
    the source, for the import may take a second. Where the source does not show it, it is imported.
    """

    def command() -> None:
        raise AssertionError(f"{entry.name} was only to be listed")

    command.__doc__ = _help_in_source(entry) or load_command(entry).__doc__
    return command


def _help_in_source(entry: EntryPoint) -> str | None:
    """The docstring of the entry's function."""
    try:
        spec = find_spec(entry.module)  # imports the packages that the module is in
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            return None
        body = ast.parse(Path(spec.origin).read_bytes()).body
    except Exception:  # whatever is wrong with it: `load_command` says it
        return None
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == entry.attr:
            return ast.get_docstring(node)
    return None
