"""The live page's real server in this process, fed by hand, and raw sockets to it."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np

from edge.bundle.manifest import load_bundle
from edge.decision.label import RUNNING, Label
from edge.outputs.base import SourceInfo
from edge.outputs.events.event_store import EventStore
from edge.outputs.listen_address import parse_listen
from edge.outputs.overlay import Picture
from edge.outputs.web.server import WebServer
from edge.outputs.web.state import LiveState
from edge.video.frames import Frame
from edge.video.view import WHOLE, View, ViewCutter
from tests.support.labels import make_label
from tests.support.paths import REPOSITORY
from tests.support.waiting import BOUND_S

MANIFEST = load_bundle(REPOSITORY / "edge/bundles/ucf101-mini").manifest
TOKEN = "open-sesame-0123456789"


class Page:
    """A server with one source, `yard`, that has one picture."""

    def __init__(self, url: str, state: LiveState) -> None:
        self.url, self.state = url, state
        self.port = int(url.rstrip("/").rpartition(":")[2])

    def label(self, source: str = "yard") -> None:
        frame = cast(Any, None)
        self.state.on_label(Label(source, frame, RUNNING, None, {}, None, 1.0))

    def see(self, frame: Frame, view: View = WHOLE) -> None:
        """The next picture of `yard`, of which its source gives the view."""
        cut = ViewCutter(view, "yard")(frame)
        self.state.on_label(make_label(MANIFEST, cut))

    def connect(self, data: bytes = b"", peer: str = "127.0.0.1") -> socket.socket:
        """peer: the loopback address that it comes from."""
        opened = socket.create_connection(("127.0.0.1", self.port), BOUND_S, (peer, 0))
        opened.sendall(data)
        return opened

    def send(self, data: bytes) -> bytes:
        """The answer up to its end; empty where the connection is cut."""
        with self.connect(data) as opened:
            return read_all(opened)

    def ask(self, target: str, *fields: str, method: str = "GET", host: str = "") -> Answer:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host or f'127.0.0.1:{self.port}'}"]
        lines += ["Connection: close", *fields]
        return Answer(self.send(("\r\n".join(lines) + "\r\n\r\n").encode()))

    def count(self, reason: str) -> int:
        text = self.ask("/metrics", f"Authorization: Bearer {TOKEN}").raw.decode()
        found = re.search(rf'twostream_web_refused_total{{reason="{reason}"}} (\d+)', text)
        assert found is not None, text
        return int(found[1])


class Answer:
    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *fields = head.decode().split("\r\n")
        self.status = int(first.split()[1]) if first else 0
        pairs = (field.partition(": ") for field in fields)
        self.headers = {name.lower(): value for name, _, value in pairs}


def read_all(opened: socket.socket) -> bytes:
    data = b""
    try:
        while part := opened.recv(65536):
            data += part
    except ConnectionError:
        pass
    return data


def is_closed(opened: socket.socket) -> bool:
    """Whether the other side has ended it; waits for that up to the socket's own bound."""
    try:
        while opened.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


@contextmanager
def page(
    token: str = "",
    side_px: int = 64,
    store: EventStore | None = None,
    view: View = WHOLE,
    draw: Callable[[Label], Picture] | None = None,
) -> Iterator[Page]:
    """draw: the pictures; None: noise of side_px."""
    noise = np.random.default_rng(0).integers(0, 255, (side_px, side_px, 3), np.uint8)
    state = LiveState(MANIFEST, draw or (lambda label: noise), store)
    with WebServer(parse_listen("--web", "0", token), state) as server:
        running = Page(server.url, state)
        state.begin(SourceInfo("yard", "yard", live=True, view=view))
        running.label()
        yield running
