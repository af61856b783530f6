"""The live page in a browser: with a screen reader, on a phone, and open many times at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.bundle.manifest import load_bundle
from edge.decision.events import Event
from edge.outputs.base import SourceInfo
from edge.outputs.health import OutputState
from edge.sources.reconnect import SourceState
from tests.support.browser import BROWSER, BROWSERS, Tab, open_tab, open_tabs
from tests.support.event_scene import Scene
from tests.support.frames import street
from tests.support.labels import make_label
from tests.support.live_page import MANIFEST, Page, page
from tests.support.paths import REPOSITORY

needs_browser = pytest.mark.skipif(
    BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is on the PATH"
)
PAINTED = (
    "(c => c !== null && c.width > 300 &&"
    "c.getContext('2d').getImageData(9, 9, 1, 1).data[3] === 255)(document.getElementById('live'))"
)
LONG = "rtsp://***@192.168.100.100:8554/streaming/channels/101"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    bundle = load_bundle(REPOSITORY / "edge/bundles/ucf101-mini")
    made = Scene(tmp_path_factory.mktemp("run") / "events", bundle)
    made.run(1, 0.2)
    event = made.start()
    made.run(1, 0.9)
    made.stop(event)
    made.run(3, 0.2)
    made.folder_of(event)
    yield made
    made.finish()


@pytest.fixture
def busy(scene: Scene) -> Iterator[Page]:
    """Three cameras, one with a long name and one lost, an action, a recording that fails."""
    with page(store=scene.store, side_px=320) as running:
        running.see(street(0))
        for name in (LONG, "gate"):
            running.state.begin(SourceInfo(name, "x", live=True))
            running.state.on_label(make_label(MANIFEST, street(1), "JugglingBalls", 0.9, name))
        running.state.on_event(Event(LONG, "start", "JugglingBalls", 1.0, 1.5, 0.9))
        running.state.on_source_state(SourceState("gate", "lost", "no frame for 2 s", 3))
        running.state.on_output_state(OutputState("video", "failing", "no space", 12, "frames"))
        yield running


@contextmanager
def camera(running: Page) -> Iterator[None]:
    """`yard` gives pictures on and on."""
    over = threading.Event()

    def feed() -> None:
        number = 0
        while not over.wait(0.05):
            running.see(street(number % 100))
            number += 1

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def look(
    running: Page, folder: Path, steps: Callable[[Tab], Coroutine[Any, Any, None]], width: int
) -> None:
    async def all_steps() -> None:
        async with open_tab("about:blank", folder / "browser") as tab:
            await tab.load(running.url, width, 900)
            await tab.wait_for(PAINTED)
            await tab.wait_for("document.querySelectorAll('#recorded-list a').length === 1")
            await steps(tab)
            assert tab.complaints == []

    asyncio.run(all_steps())


def test_who_has_a_picture_gets_it_once() -> None:
    with page() as running:
        running.see(street(0))
        first = running.ask("/still.jpg")
        assert first.status == 200
        tag = first.headers["etag"]
        again = running.ask("/still.jpg", f"If-None-Match: {tag}")
        assert (again.status, again.body) == (304, b"")
        running.see(street(1))
        assert running.ask("/still.jpg", f"If-None-Match: {tag}").status == 200


@pytest.mark.slow
@needs_browser
def test_all_that_is_used_has_a_name(busy: Page, tmp_path: Path) -> None:
    """In what the browser tells a screen reader, on the page and in both dialogs."""
    used = {"button", "link", "image", "img", "textbox", "Date", "Video", "application"}

    async def names(tab: Tab) -> set[tuple[str, str]]:
        await tab.ask("Accessibility.enable")
        nodes = (await tab.ask("Accessibility.getFullAXTree"))["nodes"]
        pairs = [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node["ignored"]
        ]
        nameless = [role for role, name in pairs if role in used and not name.strip()]
        assert nameless == []
        return set(pairs)

    async def steps(tab: Tab) -> None:
        found = await names(tab)
        assert ("heading", "twostream, live") in found
        assert ("button", "gate lost") in found
        assert any(role == "link" and name.startswith("Diving yard") for role, name in found)
        await tab.click("#edit-view")
        await tab.wait_for("document.getElementById('view-picture').naturalWidth > 0")
        await tab.click("#draw-region")
        await tab.drag("#shapes", (0.2, 0.2), (0.6, 0.7))
        found = await names(tab)
        assert ("group", "region, 40 % wide, 50 % high") in found
        assert ("group", "corner 3 of region, at 60 %, 70 %") in found
        await tab.press("Escape")
        await tab.click("#recorded-list a")
        await tab.wait_for("document.getElementById('clip').readyState >= 2")
        assert ("heading", "Diving, yard") in await names(tab)

    look(busy, tmp_path, steps, 1000)


@pytest.mark.slow
@needs_browser
def test_a_screen_reader_hears_what_happens_and_not_each_label(busy: Page, tmp_path: Path) -> None:
    watch = """window.heard = [];
        for (const e of document.querySelectorAll("[role=status], [aria-live]"))
            new MutationObserver(() => window.heard.push(e.textContent))
                .observe(e, {childList: true, characterData: true, subtree: true});"""
    polls = "performance.getEntriesByType('resource').filter(e => /state/.test(e.name)).length"

    async def steps(tab: Tab) -> None:
        await tab.evaluate(watch)
        for number in range(6):
            action = ("Diving", "Swing")[number % 2]
            busy.state.on_label(make_label(MANIFEST, street(number), action, 0.9))
            before = await tab.evaluate(polls)
            await tab.wait_for(f"{polls} > {before} + 1")
            assert action in await tab.evaluate("document.getElementById('label').textContent")
        assert await tab.evaluate("window.heard") == []
        busy.state.on_event(Event("yard", "start", "Diving", 1.0, 1.5, 0.9))
        busy.state.on_source_state(SourceState("gate", "running"))
        await tab.wait_for("window.heard.length > 0")
        await tab.wait_for("/Diving starts.*source running/.test(window.heard.join())")
        assert "JugglingBalls" not in await tab.evaluate("window.heard.join()")  # from before

    look(busy, tmp_path, steps, 1000)


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [360, 700])
def test_nothing_is_wider_than_a_phone(width: int, busy: Page, tmp_path: Path) -> None:
    wide = (
        "[...document.querySelectorAll('body *')].filter(e => !e.closest('#sources') &&"
        "e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    )

    async def steps(tab: Tab) -> None:
        for name in (LONG, "gate", "yard"):
            await tab.evaluate(f"document.querySelector('#sources [data-name=\"{name}\"]').click()")
            await tab.wait_for(f"document.getElementById('camera').textContent.includes('{name}')")
            assert await tab.evaluate(wide) == []
            assert await tab.evaluate("document.documentElement.scrollWidth") <= width

    look(busy, tmp_path, steps, width)


@pytest.mark.slow
@needs_browser
def test_a_lost_camera_is_shown_with_its_reason(busy: Page, tmp_path: Path) -> None:
    async def steps(tab: Tab) -> None:
        await tab.click("#sources [data-name=gate]")
        camera = "document.getElementById('camera').textContent"
        await tab.wait_for(f"{camera} === 'gate lost: no frame for 2 s'")
        assert await tab.evaluate("document.getElementById('live').className") == "lost"
        outputs = await tab.evaluate("document.getElementById('outputs').textContent")
        assert outputs == "video: no space"

    look(busy, tmp_path, steps, 1000)


@pytest.mark.slow
@needs_browser
def test_many_pages_are_open_in_one_browser(busy: Page, tmp_path: Path) -> None:
    """More than a browser has connections for one site."""

    polls = "performance.getEntriesByType('resource').filter(e => /state/.test(e.name)).length"

    async def open_all() -> None:
        async with open_tabs("about:blank", tmp_path / "browser", 10) as tabs:
            for tab in tabs:
                await tab.load(busy.url, 500, 400)
            for tab in tabs:
                await tab.wait_for(PAINTED)
                await tab.wait_for("document.querySelector('.track div') !== null")
            before = [await tab.evaluate(polls) for tab in tabs]
            for tab, count in zip(tabs, before, strict=True):
                await tab.wait_for(f"{polls} > {count} + 9")
                assert tab.complaints == []

    with camera(busy):
        asyncio.run(open_all())
