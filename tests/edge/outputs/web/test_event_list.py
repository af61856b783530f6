"""The list of recorded events on the live page: what is given, and what a browser shows."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from edge.bundle.manifest import load_bundle
from edge.event_id import new_event_id
from edge.outputs.events.event_store import EventStore
from edge.outputs.web.event_list import PAGE
from tests.support.browser import BROWSER, BROWSERS, open_tab
from tests.support.event_scene import Scene
from tests.support.live_page import TOKEN, Page, page
from tests.support.paths import REPOSITORY

DAY_S = 86_400


def id_at(clock_s: float) -> str:
    return str(uuid.UUID(int=int(1000 * clock_s) << 80 | uuid.UUID(new_event_id()).int % (1 << 80)))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, list[str]]]:
    """A recorded event, and the ids of it and of what earlier runs have recorded, 30 on the same
    day and one on each of the five days before, the newest first."""
    bundle = load_bundle(REPOSITORY / "edge/bundles/ucf101-mini")
    made = Scene(tmp_path_factory.mktemp("run") / "events", bundle)
    made.run(1, 0.2)
    event = made.start()
    made.run(1, 0.9)
    made.stop(event)
    made.run(3, 0.2)
    folder = made.folder_of(event)
    noon_s = datetime(2026, 10, 20, 12, tzinfo=timezone.utc).timestamp()
    clocks = [noon_s - 60 * n for n in range(30)] + [noon_s - n * DAY_S for n in range(1, 6)]
    ids = [id_at(clock_s) for clock_s in clocks]
    for event_id, clock_s in zip(ids, clocks, strict=True):
        clock = datetime.fromtimestamp(clock_s, timezone.utc).isoformat()
        made.copy(folder, event_id, clock=clock, label="Swing", source="gate")
    yield made, [event.id, *ids]
    made.finish()


@pytest.fixture
def shown(scene: tuple[Scene, list[str]]) -> Iterator[Page]:
    # as in a later run: of this store nothing has been written yet
    with page(store=EventStore(scene[0].store.path)) as running:
        yield running


def listed(running: Page, before: str = "") -> dict[str, Any]:
    answer = running.ask(f"/events.json?before={before}")
    assert answer.status == 200
    return dict(json.loads(answer.body))


def test_all_are_given_a_part_at_a_time(shown: Page, scene: tuple[Scene, list[str]]) -> None:
    ids = scene[1]
    first = listed(shown)
    assert [entry["id"] for entry in first["events"]] == ids[:PAGE]
    assert first["more"]
    rest = listed(shown, ids[PAGE - 1])
    assert [entry["id"] for entry in rest["events"]] == ids[PAGE:]
    assert not rest["more"]
    assert first["unreadable"] == rest["unreadable"] == 0
    entry = first["events"][1]
    assert (entry["label"], entry["source"]) == ("Swing", "gate")
    assert entry["score"] == pytest.approx(0.9, abs=0.01)
    assert entry["clock"] == "2026-10-20T12:00:00+00:00"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[" * 100_000, "[]", '{"id": "x"}', None, "NaN", "0", "1e400", '"0.5"'],
)
def test_a_damaged_record_is_counted(text: str | None, tmp_path: Path) -> None:
    """Texts that are a number or a string are the score of a record that is whole otherwise."""
    store, event_id = EventStore(tmp_path / "events"), new_event_id()
    store.open()
    with store.writing("yard", "Diving", event_id) as folder:
        if text in ("NaN", "0", "1e400", '"0.5"'):
            rest = {"id": event_id, "label": "Diving", "source": "yard", "clock": "now"}
            (folder / "event.json").write_text(json.dumps(rest)[:-1] + f', "score": {text}}}')
        elif text is not None:
            (folder / "event.json").write_text(text)
    with page(store=store) as running:
        answer = listed(running)
    readable = text == "0"
    assert (len(answer["events"]), answer["unreadable"]) == ((1, 0) if readable else (0, 1))


def test_what_is_asked_wrongly_is_refused(shown: Page) -> None:
    for before in ("x", "../", "01a22b41", "01A22B41-4B61", "01a22b41-4b61" * 4):
        assert shown.ask(f"/events.json?before={before}").status == 400
    with page() as bare:
        assert bare.ask("/events.json").status == 404
        assert not json.loads(bare.ask("/state.json").body)["records_events"]


def test_the_list_needs_the_token(scene: tuple[Scene, list[str]]) -> None:
    with page(TOKEN, store=scene[0].store) as guarded:
        assert guarded.ask("/events.json").status == 401
        assert guarded.ask("/events.json", f"Authorization: Bearer {TOKEN}").status == 200


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is on the PATH")
def test_a_browser_lists_them(scene: tuple[Scene, list[str]], tmp_path: Path) -> None:
    made, ids = scene
    rows = "[...document.querySelectorAll('#recorded-list a')].map(a => a.hash.slice(7))"

    async def look(running: Page) -> None:
        async with open_tab("about:blank", tmp_path / "browser") as tab:
            await tab.load(running.url, 1000, 900)
            await tab.wait_for(f"{rows}.length === {PAGE}")
            assert await tab.evaluate(rows) == ids[:PAGE]
            await tab.click("#older")
            await tab.wait_for(f"{rows}.length === {len(ids)}")
            assert await tab.evaluate(rows) == ids
            assert await tab.evaluate("document.getElementById('older').hidden")
            # one that this run records comes on top, and the focus stays
            await tab.evaluate("document.querySelectorAll('#recorded-list a')[5].focus()")
            event = made.start()
            running.state.on_event(event)
            made.run(1, 0.9)
            made.stop(event)
            made.run(3, 0.2)
            made.folder_of(event)
            await tab.wait_for(f"{rows}.length === {len(ids) + 1}")
            assert await tab.evaluate(rows) == [event.id, *ids]
            assert await tab.evaluate("document.activeElement.hash") == f"#event={ids[5]}"
            await tab.press("Enter")
            await tab.wait_for("document.getElementById('event').open")
            title = "document.getElementById('event-title').textContent"
            await tab.wait_for(f"{title} === 'Swing, gate'")
            await tab.press("Escape")
            # by date
            await tab.evaluate(
                "(e => { e.value = '2026-10-17'; e.dispatchEvent(new Event('change')); })"
                "(document.getElementById('until'))"
            )
            await tab.wait_for(f"{rows}.length === 3")
            assert await tab.evaluate(rows) == ids[-3:]
            assert tab.complaints == []

    with page(store=made.store) as running:
        asyncio.run(look(running))
