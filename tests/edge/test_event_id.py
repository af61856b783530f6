"""Ids of events: unique, and sorted by time as text."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from edge.decision.events import Event
from edge.event_id import new_event_id
from edge.outputs.records import event_record


def test_ids_are_uuids_of_version_7_with_the_time() -> None:
    before_ms = time.time_ns() // 1_000_000
    found = uuid.UUID(new_event_id())
    assert (found.version, found.variant) == (7, uuid.RFC_4122)
    assert before_ms <= found.int >> 80 <= time.time_ns() // 1_000_000 + 1000


def test_ids_rise_also_where_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [new_event_id() for _ in range(5000)]
    now_ns = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now_ns - 10**12)
    ids += [new_event_id() for _ in range(5000)]
    assert ids == sorted(set(ids))


def test_threads_never_get_the_same() -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: new_event_id(), range(4000)))
    assert len(set(ids)) == 4000


def test_an_event_keeps_its_id() -> None:
    first, second = (Event("cam", "start", "Diving", 0.0, 0.5, 0.9) for _ in range(2))
    assert first == second  # as events
    assert first.id < second.id
    assert event_record(first)["id"] == event_record(first)["id"] == first.id
