"""Writes JSON files, atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge.errors import DataError
from edge.files import write_atomic


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` as indented JSON. Raises DataError if the file cannot be written."""
    with write_atomic(path, DataError) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())
