"""A real browser, without a screen."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import cv2

from tests.support.waiting import BOUND_S

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
KEYS = {"Backspace": 8, "Tab": 9, "Enter": 13, "Escape": 27, "Delete": 46} | {
    f"Arrow{way}": 37 + n for n, way in enumerate(("Left", "Up", "Right", "Down"))
}
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)


class Tab:
    """A page in a browser, over the DevTools protocol: presses keys, moves the mouse, asks
    JavaScript.

    complaints: what the browser's console has said since `load`.
    """

    def __init__(self, wire: aiohttp.ClientWebSocketResponse) -> None:
        self._wire, self._number = wire, 0
        self.complaints: list[str] = []

    async def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        await self._wire.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            answer = await self._wire.receive_json(timeout=BOUND_S)
            if answer.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                text = json.dumps(answer["params"])
                self.complaints += [] if "favicon" in text else [text]
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    async def load(self, url: str, width: int, height: int) -> None:
        """Open a page in a window of that size, in px."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.ask("Emulation.setDeviceMetricsOverride", **size)
        for domain in ("Log", "Runtime", "Page"):
            await self.ask(f"{domain}.enable")
        await self.ask("Page.navigate", url=url)

    async def capture(self, path: Path) -> None:
        """Write what is shown as a PNG or, by the path's ending, a JPEG."""
        kind = {"format": "jpeg", "quality": 85} if path.suffix == ".jpg" else {"format": "png"}
        answer = await self.ask("Page.captureScreenshot", **kind)
        path.write_bytes(base64.b64decode(answer["data"]))

    async def evaluate(self, expression: str) -> Any:
        result = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def wait_for(self, expression: str) -> None:
        """Until the expression is true."""
        deadline_s = time.monotonic() + BOUND_S
        while not await self.evaluate(expression):
            assert time.monotonic() < deadline_s, f"it has not come to {expression}"
            await asyncio.sleep(0.05)

    async def press(self, key: str, times: int = 1, *, shift: bool = False) -> None:
        text = {"text": "\r"} if key == "Enter" else {}
        event = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]} | text
        event["modifiers"] = 8 if shift else 0
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                await self.ask("Input.dispatchKeyEvent", type=kind, **event)

    async def click(self, selector: str) -> None:
        """The middle of an element."""
        await self.drag(selector, (0.5, 0.5))

    async def drag(self, selector: str, *shares: tuple[float, float]) -> None:
        """Press the mouse at the first place in an element, move it over the others and let go.
        shares: (x, y) of the element's width and height."""
        quoted = json.dumps(selector)
        await self.evaluate(
            f"document.querySelector({quoted}).scrollIntoView({{block: 'nearest'}})"
        )
        left, top, width, height = await self.evaluate(
            f"(b => [b.x, b.y, b.width, b.height])(document.querySelector({quoted})"
            ".getBoundingClientRect())"
        )
        places = [{"x": left + x * width, "y": top + y * height} for x, y in shares]
        held = {"button": "left", "clickCount": 1}
        await self._mouse("mouseMoved", places[0])
        await self._mouse("mousePressed", places[0] | held)
        for place in places[1:]:
            await self._mouse("mouseMoved", place | {"button": "left", "buttons": 1})
        await self._mouse("mouseReleased", places[-1] | held)

    async def _mouse(self, kind: str, event: dict[str, Any]) -> None:
        await self.ask("Input.dispatchMouseEvent", type=kind, **event)


@asynccontextmanager
async def open_tab(url: str, folder: Path) -> AsyncIterator[Tab]:
    """folder: for the browser's own files."""
    async with open_tabs(url, folder, 1) as (tab,):
        yield tab


@asynccontextmanager
async def open_tabs(url: str, folder: Path, count: int) -> AsyncIterator[list[Tab]]:
    """Pages in one browser."""
    words = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    words += ["--remote-debugging-port=0", f"--user-data-dir={folder}", url]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        port = next(
            match[1] for line in process.stderr if (match := re.search(r"ws://[^:]+:(\d+)/", line))
        )
        threading.Thread(target=process.stderr.read, daemon=True).start()
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession())
            tabs: list[Tab] = []
            while len(tabs) < count:
                if tabs:  # in a window of its own: a tab behind another one shows nothing
                    await tabs[0].ask("Target.createTarget", url=url, newWindow=True)
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    pages = [each for each in await answer.json() if each["type"] == "page"]
                address = pages[0]["webSocketDebuggerUrl"]  # the newest
                tabs.append(Tab(await stack.enter_async_context(session.ws_connect(address))))
            yield tabs
    finally:
        process.kill()
        process.wait(BOUND_S)


def stream_pixels(shot: Path) -> tuple[int, int]:
    """How many pixels of a screenshot have the colour of the first stream (orange), and of the
    second (blue)."""
    picture = cv2.imread(str(shot))
    assert picture is not None
    blue, _, red = (picture[..., index].astype(int) for index in range(3))
    return int(((red - blue) > 120).sum()), int(((blue - red) > 120).sum())
