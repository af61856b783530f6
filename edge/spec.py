"""The base of every model that reads a file from outside: unknown and missing keys are refused, and
so are NaN and infinity."""

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
    """Parse standard JSON in UTF-8. Raises ValueError if it is not, for NaN and Infinity, for a
    repeated key, and for nesting that is too deep."""
    if isinstance(data, bytes):
        data = data.decode()  # of bytes, json guesses the encoding
    try:
        return json.loads(data, parse_constant=_refuse, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def first_fault(error: ValidationError, whole: str) -> str:
    """The first fault of a file: the key, what was expected, and the value. whole: what to call the
    file if the fault is not of one key."""
    faults = error.errors(include_url=False)
    first = faults[0]
    key = printable(".".join(str(part) for part in first["loc"]))[:200] or whole
    value = first["input"]
    unknown = first["type"] == "extra_forbidden"
    actual = ""
    if (
        not unknown
        and isinstance(value, int | float | str)
        and str(value)[:_SHOWN] not in first["msg"]
    ):
        shown = printable(str(value))
        actual = f", not {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '...'}"
    text = "does not exist" if unknown else first["msg"].replace("Value error, ", "")
    others = len(faults) - 1
    more = f" (and {counted(others, 'more fault')})" if others else ""
    return f"{key}: {printable(text)}{actual}{more}"


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a key is repeated in one object")
    return table
