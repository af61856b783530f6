"""The region and the mask of a camera, drawn on the page in a real browser."""

from __future__ import annotations

import asyncio
import re
import signal
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.outputs.base import SourceInfo
from edge.video.view import WHOLE, Region, View, parse_mask, parse_region
from tests.support.browser import BROWSER, BROWSERS, Tab, open_tab
from tests.support.command import Running
from tests.support.frames import street
from tests.support.live_page import Page, page
from tests.support.waiting import BOUND_S

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is on the PATH"),
]

Use = Callable[[Tab], Coroutine[Any, Any, None]]


@asynccontextmanager
async def editor(url: str, folder: Path, width: int = 1000) -> AsyncIterator[Tab]:
    """The editor of `yard`, opened by its button."""
    async with open_tab("about:blank", folder / "browser") as tab:
        await tab.load(url, width, 1300)
        await tab.wait_for("document.querySelector('.track div') !== null")
        # the first picture has its own height, and moves the button
        await tab.wait_for("document.getElementById('live').width !== 300")
        await tab.click("#edit-view")
        await tab.wait_for("document.getElementById('view-picture').naturalWidth > 0")
        yield tab
        # a camera that has just been opened has no picture yet
        assert [text for text in tab.complaints if ".jpg?source" not in text] == []


def use(running: Page, folder: Path, steps: Use, view: View = WHOLE, width: int = 1000) -> None:
    """Take the steps in an editor whose camera gives a view of a drawn street."""
    running.see(street(0, (240, 320)), view)

    async def all_steps() -> None:
        async with editor(running.url, folder, width) as tab:
            await steps(tab)

    asyncio.run(all_steps())


async def text(tab: Tab, element: str) -> str:
    return str(
        await tab.evaluate(f"(e => e.value || e.textContent)(document.getElementById('{element}'))")
    )


async def draw_mask(tab: Tab, *corners: tuple[float, float]) -> None:
    await tab.click("#draw-mask")
    for corner in (*corners, corners[0]):
        await tab.drag("#shapes", corner)


async def drawn(tab: Tab) -> View:
    """What the options for an address say, as a run reads them."""
    options = await text(tab, "options")
    region, mask = re.search(r"region=([^&]+)", options), re.search(r"mask=([^&]+)", options)
    return View(parse_region(region[1]) if region else None, parse_mask(mask[1]) if mask else ())


def assert_near(found: Any, expected: Any) -> None:
    """Within a pixel of the screen."""
    np.testing.assert_allclose(found, expected, atol=0.004)


def bare_picture(url: str) -> NDArray[np.uint8] | None:
    """(H, W); None: there is none yet."""
    try:
        with urllib.request.urlopen(f"{url}view.jpg", timeout=BOUND_S) as answer:
            data = np.frombuffer(answer.read(), np.uint8)
    except urllib.error.HTTPError:
        return None
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)  # type: ignore[return-value]


def test_what_is_drawn_is_what_a_run_leaves_out(tmp_path: Path, light_bundle: Path) -> None:
    """The page's lines, in the configuration file: that very part is cut, and that one black."""
    file = tmp_path / "run.toml"
    source = "address = 'test://?live=1&pattern=checkers-8&width=1280&height=960&rate=10'\n"
    head = f"bundle = '{light_bundle}'\nweb = '0'\ndevice = 'cpu'\n"
    file.write_text(f"{head}[sources.yard]\n{source}")
    corners = ((0.4, 0.4), (0.7, 0.5), (0.5, 0.8))

    async def draw(run: Running, url: str) -> View:
        async with editor(url, tmp_path) as tab:
            await tab.click("#draw-region")
            await tab.drag("#shapes", (0.25, 0.25), (0.5, 0.6), (0.75, 1.0))
            await draw_mask(tab, *corners)
            assert "does not use this yet" in await text(tab, "as-it-runs")
            with file.open("a") as config:
                config.write(await text(tab, "lines"))
            run.process.send_signal(signal.SIGHUP)
            says = "document.getElementById('as-it-runs').textContent"
            await tab.wait_for(f"{says} === 'The run uses this.'")
            return await drawn(tab)

    with Running("run", "--config", file) as run:
        url = run.said(r"live page: (http://\S+)")[1]
        run.wait_until(lambda: bare_picture(url) is not None)
        whole = bare_picture(url)
        view = asyncio.run(draw(run, url))
        run.wait_until(lambda: bare_picture(url) is not None)
        cut = bare_picture(url)
        run.stop()
    assert_near(view.region, (0.25, 0.25, 0.5, 0.75))
    assert_near(view.mask, [corners])
    assert whole is not None
    assert cut is not None
    assert view.region is not None
    left, top, width, height = np.array(view.region) * (1280, 960, 1280, 960)
    assert_near(np.divide(cut.shape, whole.shape), (height / 960, width / 1280))
    row, column = 2 * round(top / 2), 2 * round(left / 2)
    part = np.s_[row : row + cut.shape[0], column : column + cut.shape[1]]
    hidden = np.zeros(whole.shape, np.uint8)
    cv2.fillPoly(hidden, [np.round(np.array(view.mask[0]) * (1280, 960)).astype(np.int32)], 255)
    border = np.ones((9, 9))  # left out, for there JPEG mixes both sides
    assert cut[cv2.erode(hidden, border)[part] > 0].max() < 24
    apart = np.abs(cut.astype(int) - whole[part])[cv2.dilate(hidden, border)[part] == 0]
    assert np.quantile(apart, 0.999) < 20
    assert whole.std() > 20  # it has squares of 8 px, so that a part beside it is another one


def test_shapes_are_moved_and_removed_with_the_mouse(tmp_path: Path) -> None:
    async def steps(tab: Tab) -> None:
        await tab.click("#draw-region")
        await tab.drag("#shapes", (0.2, 0.2), (0.6, 0.7))
        await draw_mask(tab, (0.1, 0.8), (0.3, 0.8), (0.2, 0.95))
        await tab.drag(
            "[data-key='region']", (0.5, 0.5), (0.75, 0.7)
        )  # by a quarter, a fifth of it
        assert_near((await drawn(tab)).region, (0.3, 0.3, 0.4, 0.5))
        await tab.drag("#shapes", (0.7, 0.8), (0.9, 0.9))  # its corner
        assert_near((await drawn(tab)).region, (0.3, 0.3, 0.6, 0.6))
        await tab.drag("#shapes", (0.2, 0.95), (0.2, 1.2))  # stays within the picture
        assert_near((await drawn(tab)).mask, [[(0.1, 0.8), (0.3, 0.8), (0.2, 1.0)]])
        await tab.drag("#shapes", (0.2, 0.83), (-0.5, 0.83))
        assert_near((await drawn(tab)).mask, [[(0.0, 0.8), (0.2, 0.8), (0.1, 1.0)]])
        await tab.click("[aria-label='remove mask 1']")
        assert (await drawn(tab)).mask == ()
        await tab.click("[aria-label='remove region']")
        assert await drawn(tab) == WHOLE
        assert (await text(tab, "lines")).startswith("#")

    with page() as running:
        use(running, tmp_path, steps)


def test_it_is_drawn_with_the_keyboard_alone(tmp_path: Path) -> None:
    """From the cross in the middle; corners are then moved, and removed."""

    async def steps(tab: Tab) -> None:
        await tab.evaluate("document.getElementById('draw-region').focus()")
        await tab.press("Enter")
        for key, times in (("ArrowLeft", 30), ("ArrowUp", 40), ("Enter", 1), ("ArrowRight", 60)):
            await tab.press(key, times)
        await tab.press("ArrowDown", 50)
        await tab.press("Enter")
        assert_near((await drawn(tab)).region, (0.2, 0.1, 0.6, 0.5))
        await tab.evaluate("document.getElementById('draw-mask').focus()")
        await tab.press("Enter")
        for key in ("ArrowLeft", "ArrowDown", "ArrowRight", "ArrowUp"):
            await tab.press("Enter")
            await tab.press(key, 20)
        await tab.press("Enter")  # at the first corner
        square = [(0.8, 0.6), (0.6, 0.6), (0.6, 0.8), (0.8, 0.8)]
        assert_near((await drawn(tab)).mask, [square])
        await tab.evaluate("document.querySelector('[data-key=\"mask 1:3\"]').focus()")
        await tab.press("ArrowRight", 5)
        await tab.press("ArrowDown", 5, shift=True)
        assert_near((await drawn(tab)).mask, [[*square[:3], (0.85, 0.805)]])
        await tab.press("Delete")
        assert_near((await drawn(tab)).mask, [square[:3]])
        await tab.evaluate("document.querySelector('[data-key=\"mask 1\"]').focus()")
        await tab.press("Delete")
        assert (await drawn(tab)).mask == ()
        await tab.press("Escape")
        await tab.wait_for("!document.getElementById('view').open")
        assert await tab.evaluate("document.activeElement.id") == "edit-view"

    with page() as running:
        use(running, tmp_path, steps)


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    async def steps(tab: Tab) -> None:
        await tab.click("#draw-region")
        await tab.drag("#shapes", (0.2, 0.2), (0.6, 0.202))
        assert "too small" in await text(tab, "view-says")
        await tab.click("#draw-mask")
        for corner in ((0.2, 0.2), (0.4, 0.2), (0.6, 0.2)):
            await tab.drag("#shapes", corner)
        await tab.click("#finish")
        assert "three corners" in await text(tab, "view-says")
        await tab.press("Escape")  # puts the tool away, and closes nothing
        assert await tab.evaluate("document.getElementById('view').open")
        assert await drawn(tab) == WHOLE

    with page() as running:
        use(running, tmp_path, steps)


def test_a_view_that_runs_is_shown_in_the_whole_picture(tmp_path: Path) -> None:
    """The picture lies where its region is; what a region or a mask hides is not on the page."""
    runs = View(Region(0.5, 0.25, 0.5, 0.5), (((0.6, 0.3), (0.8, 0.3), (0.8, 0.6)),))
    boxes = "['view-picture', 'stage'].map(i => document.getElementById(i).getBoundingClientRect())"

    async def steps(tab: Tab) -> None:
        assert await drawn(tab) == runs
        assert "uses this" in await text(tab, "as-it-runs")
        left, top, width, height, aspect = await tab.evaluate(
            f"(([p, s]) => [(p.x - s.x) / s.width, (p.y - s.y) / s.height, p.width / s.width, "
            f"p.height / s.height, s.width / s.height])({boxes})"
        )
        assert_near((left, top, width, height), runs.region)
        assert_near(aspect, 4 / 3)
        await tab.drag("#shapes", (0.5, 0.5), (0.1, 0.5))  # an edge of it moves the shape
        await tab.click("[aria-label='remove region']")
        assert await drawn(tab) == View(None, runs.mask)
        running.state.begin(SourceInfo("yard", "yard", live=True, view=View(None, runs.mask)))
        running.see(street(0, (240, 320)), View(None, runs.mask))
        await tab.wait_for("document.getElementById('outside').hidden")
        assert "uses this" in await text(tab, "as-it-runs")

    with page(view=runs) as running:
        use(running, tmp_path, steps, runs)


def test_what_is_drawn_stays_when_the_run_changes_and_the_editor_is_closed(tmp_path: Path) -> None:
    other = View(Region(0.0, 0.0, 0.5, 1.0))

    async def steps(tab: Tab) -> None:
        await draw_mask(tab, (0.1, 0.1), (0.3, 0.1), (0.2, 0.4))
        mine = await drawn(tab)
        await tab.click("#view-close")
        await tab.click("#edit-view")
        assert await drawn(tab) == mine
        running.state.begin(SourceInfo("yard", "yard", live=True, view=other))
        running.see(street(0, (240, 320)), other)
        await tab.wait_for("!document.getElementById('outside').hidden")
        assert await drawn(tab) == mine
        await tab.click("#reset")
        assert await drawn(tab) == other

    with page() as running:
        use(running, tmp_path, steps)


def test_the_lines_are_copied(tmp_path: Path) -> None:
    async def steps(tab: Tab) -> None:
        await draw_mask(tab, (0.1, 0.1), (0.3, 0.1), (0.2, 0.4))
        await tab.evaluate(
            "document.addEventListener('copy', () => { const e = document.activeElement;"
            "window.copied = e.value.slice(e.selectionStart, e.selectionEnd); })"
        )
        for name in ("lines", "options"):
            await tab.click(f"#copy-{name}")
            assert await tab.evaluate("window.copied") == await text(tab, name)
            assert await text(tab, "view-says") == "copied"

    with page() as running:
        use(running, tmp_path, steps)


def test_it_fits_a_phone(tmp_path: Path) -> None:
    async def steps(tab: Tab) -> None:
        await draw_mask(tab, (0.1, 0.1), (0.3, 0.1), (0.2, 0.4))
        box = "document.getElementById('view')"
        assert await tab.evaluate(f"{box}.scrollWidth <= {box}.clientWidth")
        assert await tab.evaluate(f"{box}.getBoundingClientRect().right <= innerWidth")
        assert_near((await drawn(tab)).mask, [[(0.1, 0.1), (0.3, 0.1), (0.2, 0.4)]])

    with page() as running:
        use(running, tmp_path, steps, width=360)
