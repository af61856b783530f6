"""Folders of events: whole or not there, within limits, and no others touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import OutputError
from edge.event_id import new_event_id
from edge.outputs.events.event_store import CLIP, PICTURE, RECORD, EventStore, Limits, time_of
from tests.support.command import assert_refused, twostream
from tests.support.paths import REPOSITORY
from tests.support.waiting import BOUND_S, wait_until


def opened(path: Path, limits: Limits = Limits()) -> EventStore:  # noqa: B008
    store = EventStore(path, limits)
    store.open()
    return store


def write(store: EventStore, size: int = 1000, age_s: float = 0.0) -> Path:
    event_id = new_event_id()
    with store.writing("yard", "Diving", event_id) as folder:
        for name in (CLIP, PICTURE, RECORD):
            (folder / name).write_bytes(bytes(size))
    path = store.find(event_id)
    assert path is not None
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def events(store: EventStore) -> list[Path]:
    return sorted(store.path.glob("*/[0-9]*"))


def test_a_folder_is_named_by_when_where_and_what(tmp_path: Path) -> None:
    store = opened(tmp_path / "events")
    event_id = new_event_id()
    with store.writing("yard", "Throw / Catch ü", event_id) as folder:
        assert folder.name.startswith(".")
        assert store.find(event_id) is None
    path = store.find(event_id)
    assert path is not None
    moment = time_of(event_id)
    assert abs(moment.timestamp() - time.time()) < 3600
    assert path.parent.name == f"{moment:%Y-%m-%d}"
    assert path.name == f"{moment:%H%M%S}-yard-Throw-Catch-{event_id}"


def test_the_newest_come_first_and_a_part_at_a_time(tmp_path: Path) -> None:
    store = opened(tmp_path / "events")
    days = [f"0{month}a22b41-4b61-7744-953e-84e15148b83a" for month in range(4)]
    ids = sorted([*days, *(new_event_id() for _ in range(3))], reverse=True)
    for event_id in ids[::2] + ids[1::2]:
        with store.writing("yard", "Diving", event_id):
            pass
    (store.path / "2026-01-01").mkdir()
    (store.path / "2026-01-01" / "notes").mkdir()
    (store.path / "2026-01-01" / f"000000-yard-Diving-{ids[0]}").symlink_to("/etc")

    def newest(count: int, before: str = "") -> list[str]:
        return [path.name[-36:] for path in store.newest(count, before)]

    assert newest(100) == ids
    assert newest(2) == ids[:2]
    assert newest(3, ids[1]) == ids[2:5]
    assert newest(100, ids[5][:13]) == ids[6:]
    assert newest(100, ids[-1]) == []
    assert opened(tmp_path / "others").newest(1) == []


@given(st.text(max_size=60))
def test_no_text_finds_a_folder_outside(text: str) -> None:
    assert EventStore(REPOSITORY).find(text) is None


def test_what_raises_leaves_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path / "events")

    def fail() -> None:
        with store.writing("yard", "Diving", new_event_id()) as folder:
            (folder / CLIP).write_bytes(b"x")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [path for path in store.path.rglob("*") if path.is_file()] == []


WRITER = """
import sys
from edge.event_id import new_event_id
from edge.outputs.events.event_store import *
store = EventStore(Path(sys.argv[1]))
store.open()
while True:
    with store.writing("yard", "Diving", new_event_id()) as folder:
        for name in (CLIP, PICTURE, RECORD):
            (folder / name).write_bytes(bytes(200_000))
            print("written", flush=True)
"""


def test_a_killed_run_leaves_whole_events_and_the_next_removes_the_rest(tmp_path: Path) -> None:
    place = tmp_path / "events"
    for more in range(3):  # killed at the first, second and third file of an event
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(place)], stdout=subprocess.PIPE, cwd=REPOSITORY
        )
        assert process.stdout is not None
        for _ in range(4 + more):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait(BOUND_S)
        process.stdout.close()
        left = [path for day in place.iterdir() for path in day.iterdir()]
        for path in left:
            if not path.name.startswith("."):
                assert sorted(file.name for file in path.iterdir()) == [CLIP, RECORD, PICTURE]
                assert all(file.stat().st_size == 200_000 for file in path.iterdir())
        whole = [path for path in left if not path.name.startswith(".")]
        store = opened(place)
        assert events(store) == sorted(whole)
        assert list(place.glob("*/.*")) == []
    assert whole


def test_what_another_run_is_writing_is_left_alone(tmp_path: Path) -> None:
    one = opened(tmp_path / "events")
    with one.writing("yard", "Diving", new_event_id()) as folder:
        (folder / CLIP).write_bytes(b"x")
        opened(tmp_path / "events")
        assert folder.exists()
    assert len(events(one)) == 1


def test_the_oldest_go_first_and_nothing_else_goes(tmp_path: Path) -> None:
    store = opened(tmp_path / "events", Limits(keep_bytes=7000))
    paths = [write(store, age_s=1000 - number) for number in range(4)]
    kept = paths[0].parent / "mine"
    kept.mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"x")
    link = paths[0].with_name(paths[0].name.replace("yard", "link"))
    link.symlink_to(outside)
    assert store.prune() == 2
    assert events(store) == sorted([link, *paths[2:]])
    assert (outside / "file").exists()
    assert kept.exists()
    assert store.prune() == 0


def test_what_is_too_old_goes_with_its_day(tmp_path: Path) -> None:
    store = opened(tmp_path / "events", Limits(keep_s=100.0))
    old = write(store, age_s=101)
    assert store.prune() == 1
    assert not old.parent.exists()
    young = write(store, age_s=50)
    assert store.prune() == 0
    assert young.exists()


@pytest.mark.slow
def test_places_that_cannot_be_used_are_refused(tmp_path: Path, demo_bundle: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for place in (tmp_path / "file", tmp_path / "no" / "where"):
        with pytest.raises(OutputError, match="--events"):
            EventStore(place).open()
    done = twostream("run", demo_bundle, "test://?live=1", "--events", tmp_path / "no" / "where")
    assert_refused(done, "--events", "No such file")
    wait_until(lambda: not (tmp_path / "no").exists())
