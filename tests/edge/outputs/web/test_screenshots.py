"""The pictures of the page in docs/, of a drawn figure whose scores are made up.

SCREENSHOTS=docs python -m pytest tests/edge/outputs/web/test_screenshots.py
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge.bundle.manifest import load_bundle
from edge.event_id import new_event_id
from edge.outputs.base import SourceInfo
from edge.sources.source import open_source
from edge.video.frames import Frame
from export.generated import write_generated
from tests.support.browser import BROWSER, BROWSERS, Tab, open_tab, stream_pixels
from tests.support.event_scene import RATE, Scene
from tests.support.labels import make_label
from tests.support.live_page import MANIFEST, Page, page
from tests.support.paths import REPOSITORY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is on the PATH"),
]
BYTES_MAX = 200_000


@dataclass
class Shown:
    page: Page
    event: str  # id


def figure(folder: Path, motion: str, seed: int) -> Callable[[int], Frame]:
    """The frames of a drawn figure, again and again."""
    video = folder / f"{motion}.mp4"
    write_generated(video, [motion], 3.0, seed)
    with open_source(str(video)) as source:
        frames = list(source)
    return lambda number: frames[number % len(frames)]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """Two cameras; at one somebody jumps. Four jumps are recorded."""
    folder = tmp_path_factory.mktemp("run")
    bundle = load_bundle(REPOSITORY / "edge/bundles/ucf101-mini")
    scene = Scene(folder / "events", bundle, picture=figure(folder, "jump", 120))
    began_s = time.time()
    clock = SimpleNamespace(
        time=lambda: began_s + scene.number / RATE, monotonic=time.monotonic
    )  # so that the timeline has the times of the scene
    with (
        pytest.MonkeyPatch.context() as patch,
        page(store=scene.store, draw=scene.draw) as running,
    ):
        patch.setattr("edge.outputs.web.state.time", clock)
        scene.outputs.append(running.state)
        running.state.begin(SourceInfo("gate", "gate", live=True))
        waits = figure(folder, "rest", 100)(0)
        running.state.on_label(make_label(MANIFEST, waits, "Swing", 0.2, "gate"))
        for length_s in (2, 4):
            scene.run(20, 0.15, "JumpRope")
            scene.run(0.5, 0.4, "JumpRope")
            event = scene.start("JumpRope", 0.4)
            for n in range(2 * length_s):
                scene.run(0.5, (0.6, 0.75, 0.93, 0.88)[n % 4], "JumpRope")
            scene.stop(event, 0.93)
            scene.run(2, 0.2, "JumpRope")
        path = scene.folder_of(event)
        for _ in range(2):
            scene.copy(path, new_event_id())
        scene.run(10, 0.15, "JumpRope")
        scene.run(0.5, 0.55, "JumpRope")
        last = scene.start("JumpRope")
        scene.run(2, 0.91, "JumpRope")
        yield Shown(running, event.id)
        scene.stop(last)
        scene.finish()


async def nothing(_: Tab) -> None:
    pass


async def draw(tab: Tab) -> None:
    await tab.wait_for("document.getElementById('view-picture').naturalWidth > 0")
    await tab.click("#draw-region")
    await tab.drag("#shapes", (0.2, 0.12), (0.5, 0.5), (0.85, 0.98))
    await tab.click("#draw-mask")
    for corner in ((0.03, 0.05), (0.3, 0.05), (0.3, 0.3), (0.03, 0.45), (0.03, 0.05)):
        await tab.drag("#shapes", corner)


LIVE = "document.querySelectorAll('#recorded-list img').length >= 4"
LIVE += (
    " && [...document.images].every(i => i.complete) && document.getElementById('live').width > 300"
)
EVENT = "(c => c && c.readyState >= 2)(document.getElementById('clip'))"
EVENT += " && document.getElementById('best').complete"


@pytest.mark.parametrize(
    ("name", "place", "size", "ready", "steps"),
    [
        ("live-page", "", (1200, 1290), LIVE, nothing),
        ("live-page-phone", "", (360, 1280), LIVE, nothing),
        ("event-page", "#event={}", (1000, 1300), EVENT, nothing),
        ("view-editor", "#view=yard", (1000, 1180), "true", draw),
    ],
)
def test_it_is_shot(
    name: str,
    place: str,
    size: tuple[int, int],
    ready: str,
    steps: Callable[[Tab], object],
    shown: Shown,
    tmp_path: Path,
) -> None:
    shot = Path(os.environ.get("SCREENSHOTS", tmp_path)) / f"{name}.jpg"

    async def look() -> None:
        async with open_tab("about:blank", tmp_path / "browser") as tab:
            await tab.load(shown.page.url + place.format(shown.event), *size)
            await tab.wait_for("document.querySelector('.track div') !== null")
            await tab.wait_for(ready)
            await steps(tab)
            await tab.capture(shot)
            assert tab.complaints == []

    asyncio.run(look())
    assert shot.stat().st_size < BYTES_MAX
    assert min(stream_pixels(shot)) > 100
