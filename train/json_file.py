"""Reports: JSON that is whole or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge.errors import DataError


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Raises DataError where it cannot be written."""
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(content, indent=2) + "\n")
        partial.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None
