"""What every file that strangers may have written is read with: all keys known, none missing, no
number that is infinite or none."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from edge.text import counted, printable

_SHOWN = 40  # characters of a value that a message repeats


class Spec(BaseModel):
    """A section of such a file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def parse_json(data: str | bytes) -> Any:
    """JSON as its standard has it, in UTF-8. Raises ValueError for what is none, for NaN and
    Infinity, for a key that stands twice, and for nesting without end."""
    if isinstance(data, bytes):
        data = data.decode()  # of bytes, json guesses the encoding
    try:
        return json.loads(data, parse_constant=_refuse, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def first_fault(error: ValidationError, whole: str) -> str:
    """Where a file is wrong, what was expected, and what stands there. whole: what it is called
    where the fault is of all of it."""
    faults = error.errors(include_url=False)
    first = faults[0]
    key = printable(".".join(str(part) for part in first["loc"]))[:200] or whole
    found = first["input"]
    asked = ""
    if isinstance(found, int | float | str) and str(found)[:_SHOWN] not in first["msg"]:
        shown = printable(str(found))
        asked = f", not {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '...'}"
    text = first["msg"].replace("Value error, ", "")
    others = len(faults) - 1
    more = f" (and {counted(others, 'more fault')})" if others else ""
    return f"{key}: {printable(text)}{asked}{more}"


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return table
