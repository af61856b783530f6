"""A recorded event on the live page: who is given its files, and what a browser shows."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.bundle.manifest import load_bundle
from edge.decision.events import Event
from tests.support.browser import BROWSER, BROWSERS, open_tab, stream_pixels
from tests.support.event_scene import Scene
from tests.support.live_page import TOKEN, Page, page
from tests.support.paths import REPOSITORY


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, Path]]:
    """A recorded event."""
    bundle = load_bundle(REPOSITORY / "edge/bundles/ucf101-mini")
    scene = Scene(tmp_path_factory.mktemp("run") / "events", bundle)
    scene.run(3, 0.2)
    event = scene.start()
    for score in (0.5, 0.7, 0.9, 0.8):
        scene.run(0.5, score)
    scene.stop(event)
    scene.run(3, 0.2)
    yield scene, scene.folder_of(event)
    scene.finish()


@pytest.fixture
def shown(folder: tuple[Scene, Path]) -> Iterator[Page]:
    with page(store=folder[0].store) as running:
        yield running


def identity(path: Path) -> str:
    return path.name[-36:]


@pytest.mark.parametrize("name", ["clip.mp4", "picture.jpg", "event.json"])
def test_its_files_are_given(name: str, shown: Page, folder: tuple[Scene, Path]) -> None:
    target, data = f"/event/{identity(folder[1])}/{name}", (folder[1] / name).read_bytes()
    answer = shown.ask(target)
    assert (answer.status, answer.body) == (200, data)
    assert answer.headers["content-length"] == str(len(data))
    head = shown.ask(target, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(data))
    kinds = {"clip.mp4": "video/mp4", "picture.jpg": "image/jpeg", "event.json": "application/json"}
    assert answer.headers["content-type"] == kinds[name]


@pytest.mark.parametrize(
    ("asked", "begin", "end"), [("0-99", 0, 100), ("100-", 100, None), ("-50", -50, None)]
)
def test_players_get_parts(
    asked: str, begin: int, end: int | None, shown: Page, folder: tuple[Scene, Path]
) -> None:
    data = (folder[1] / "clip.mp4").read_bytes()
    answer = shown.ask(f"/event/{identity(folder[1])}/clip.mp4", f"Range: bytes={asked}")
    assert (answer.status, answer.body) == (206, data[begin:end])
    first = len(data) + begin if begin < 0 else begin
    last = first + len(answer.body) - 1
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(data)}"


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=5-2", "lines=1-2", "bytes=x"])
def test_no_part_of_it(asked: str, shown: Page, folder: tuple[Scene, Path]) -> None:
    answer = shown.ask(f"/event/{identity(folder[1])}/clip.mp4", f"Range: {asked}")
    assert answer.status == 416
    assert answer.headers["content-range"].startswith("bytes */")


def test_no_other_file_is_given(shown: Page, folder: tuple[Scene, Path]) -> None:
    event_id = identity(folder[1])
    (folder[1].parent / "secret").write_text("x")
    secret = folder[1].parent / f"000000-yard-Diving-{event_id[:-4]}beef"
    secret.mkdir()
    (secret / "event.json").symlink_to("/etc/passwd")
    for target in (
        f"{event_id}/../secret",
        f"{event_id}/secret",
        f"{event_id}",
        f"{event_id[:-4]}0000/event.json",
        f"{event_id[:-4]}beef/event.json",
        "../setup.cfg",
        f"%2e%2e/{event_id}/event.json",
    ):
        answer = shown.ask(f"/event/{target}")
        assert answer.status == 404, target
    shutil.rmtree(secret)


def test_an_event_needs_the_token(folder: tuple[Scene, Path]) -> None:
    with page(TOKEN, store=folder[0].store) as guarded:
        target = f"/event/{identity(folder[1])}/picture.jpg"
        assert guarded.ask(target).status == 401
        assert guarded.ask(target, f"Authorization: Bearer {TOKEN}").status == 200


def test_without_recording_there_is_none(folder: tuple[Scene, Path]) -> None:
    with page() as bare:
        assert bare.ask(f"/event/{identity(folder[1])}/picture.jpg").status == 404


def test_the_timeline_says_what_is_recorded(shown: Page, folder: tuple[Scene, Path]) -> None:
    path = folder[1]
    for event_id in (identity(path), identity(path)[:-4] + "0000"):
        shown.state.on_event(Event("yard", "start", "Diving", 1.0, 1.5, 0.9, event_id))
    events = json.loads(shown.ask("/state.json").body)["events"]
    assert [event.get("recorded", False) for event in events] == [True, False]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is on the PATH")
@pytest.mark.parametrize(("width", "height"), [(1000, 1300), (390, 900)])
def test_a_browser_shows_it(
    width: int, height: int, shown: Page, folder: tuple[Scene, Path], tmp_path: Path
) -> None:
    shot = tmp_path / "event.png"
    ready = "(c => c && c.readyState >= 2)(document.getElementById('clip'))"
    drawn = "document.getElementById('best').complete && document.getElementById('best').width > 0"

    async def look() -> None:
        async with open_tab("about:blank", tmp_path / "browser") as tab:
            await tab.load(f"{shown.url}#event={identity(folder[1])}", width, height)
            await tab.wait_for(f"{ready} && {drawn}")
            box = "document.getElementById('event')"
            assert await tab.evaluate(f"{box}.scrollWidth <= {box}.clientWidth")
            assert await tab.evaluate(f"{box}.getBoundingClientRect().right <= innerWidth")
            await tab.capture(shot)
            assert tab.complaints == []

    asyncio.run(look())
    # the lines of both streams, and what the picture and its overlay have of those colours
    assert min(stream_pixels(shot)) > 100


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is on the PATH")
def test_it_is_used_with_the_keyboard_alone(
    shown: Page, folder: tuple[Scene, Path], tmp_path: Path
) -> None:
    event_id = identity(folder[1])
    shown.state.on_event(Event("yard", "start", "Diving", 1.0, 1.5, 0.9, event_id))

    async def use() -> None:
        button = "document.activeElement.matches('#events button')"
        polls = (
            "performance.getEntriesByType('resource').filter(e => /state.json/.test(e.name)).length"
        )
        async with open_tab("about:blank", tmp_path / "browser") as tab:
            await tab.load(shown.url, 1000, 800)
            await tab.wait_for("document.querySelector('#events button') !== null")
            for _ in range(10):
                await tab.press("Tab")
                if await tab.evaluate(button):
                    break
            before = await tab.evaluate(polls)
            await tab.wait_for(f"{polls} > {before} + 2")
            assert await tab.evaluate(button)  # the focus stays where it is
            await tab.press("Enter")
            await tab.wait_for("document.getElementById('event').open")
            assert await tab.evaluate("location.hash") == f"#event={event_id}"
            title = await tab.evaluate("document.getElementById('event-title').textContent")
            assert title == "Diving, yard"
            await tab.wait_for("document.getElementById('clip').readyState >= 2")
            assert await tab.evaluate("document.getElementById('clip').videoWidth") == 640
            assert await tab.evaluate("document.querySelectorAll('#why polyline').length") == 3
            assert await tab.evaluate("document.querySelectorAll('#why-table tr').length") > 20
            await tab.press("Escape")
            await tab.wait_for("!document.getElementById('event').open")
            assert await tab.evaluate(button)
            await tab.wait_for("location.hash === ''")  # told by an event, a moment later

    asyncio.run(use())
