"""The list of recorded events, also of earlier runs: what /events.json says of each."""

from __future__ import annotations

import json
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from edge.outputs.events.event_store import RECORD, EventStore
from edge.outputs.web.event_files import open_regular

PAGE = 24  # events in one answer
BEFORE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}[0-9a-f-]{0,23}")
_RECORD_BYTES = 4 << 20  # of an event.json; the longest clip's has about 1
_KEYS: dict[str, type | tuple[type, ...]] = {
    "label": str,
    "source": str,
    "clock": str,
    "score": (int, float),
}


def event_list(store: EventStore, before: str) -> dict[str, Any]:
    """The newest PAGE events whose id is less than `before`, an id or its beginning; "": of all.

    more: whether there are older ones. unreadable: how many of these PAGE are not listed, since
    their record is damaged or gone.
    """
    folders = store.newest(PAGE + 1, before)
    events = []
    for folder in folders[:PAGE]:
        try:
            events.append(_entry(folder))
        except (OSError, ValueError, RecursionError):
            continue
    unreadable = min(len(folders), PAGE) - len(events)
    return {"events": events, "more": len(folders) > PAGE, "unreadable": unreadable}


@lru_cache(maxsize=512)  # a record never changes, and most of it are scores that are not listed
def _entry(folder: Path) -> dict[str, Any]:
    """Raises OSError, ValueError and RecursionError."""
    descriptor, size = open_regular(folder / RECORD)
    with os.fdopen(descriptor, "rb") as file:
        if size > _RECORD_BYTES:
            raise ValueError(f"{size} bytes are no event's record")
        record = json.loads(file.read(size))
    if not isinstance(record, dict) or not folder.name.endswith(str(record.get("id"))):
        raise ValueError("the record of another event")
    if not all(isinstance(record.get(key), kind) for key, kind in _KEYS.items()):
        raise ValueError("a record without what is listed")
    if not 0 <= record["score"] <= 1:
        raise ValueError("no score")
    return {"id": record["id"], **{key: record[key] for key in _KEYS}}
