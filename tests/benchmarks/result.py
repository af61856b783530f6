"""A result as a file: the figures, and what they were measured on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.commands.bench.compare import machine
from train.json_file import write_json


def write_result(path: Path, found: Mapping[str, Any]) -> None:
    write_json(path, {"machine": machine(), **found})
