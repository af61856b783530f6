"""Answers requests, with one function for each path."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from typing import TypeVar
from urllib.parse import parse_qs

from aiohttp import web

import edge.outputs.web.access
import edge.outputs.web.connections
from edge.outputs.web.access import LIVE_PATH, READY_PATH, Access, Asked
from edge.outputs.web.answers import HEADERS, plain, whole
from edge.outputs.web.connections import Connection
from edge.outputs.web.event_files import PREFIX as EVENTS_PREFIX
from edge.outputs.web.event_files import send_event_file
from edge.outputs.web.event_list import BEFORE, event_list
from edge.outputs.web.metrics import metrics_text
from edge.outputs.web.state import LiveState

VIEWERS_MAX = 8  # of the MJPEG stream
_PICTURES_PER_S = 15
_PICTURE_S = 10.0  # for sending one picture
_BOUNDARY = "picture"
_FIELDS_MAX = 8  # of a query
_REASONS = (
    *edge.outputs.web.access.REASONS,
    *edge.outputs.web.connections.REASONS,
    "method",
    "body",
    "viewers",
)
_HTML, _CSS, _JS = (f"text/{kind}; charset=utf-8" for kind in ("html", "css", "javascript"))
_SCRIPTS = ("dom.js", "event.js", "events.js", "live.js", "page.js", "said.js", "view.js")
_FILES = {
    "/": ("page.html", _HTML),
    "/page.css": ("page.css", _CSS),
    **{f"/{name}": (name, _JS) for name in _SCRIPTS},
}
Result = TypeVar("Result")


class Routes:
    """Answers requests; used by the thread of the event loop alone.

    counts: refusals and faults, by reason. executor: for compressing pictures and building records.
    viewers_max: of the MJPEG stream.
    """

    def __init__(
        self,
        state: LiveState,
        access: Access,
        counts: Counter[str],
        executor: Executor,
        viewers_max: int,
    ) -> None:
        self._state, self._access, self._counts = state, access, counts
        self._executor, self._viewers_max, self._viewers = executor, viewers_max, 0
        self._routes: dict[str, Callable[[Asked], Awaitable[web.Response]]] = {
            LIVE_PATH: self._live,
            READY_PATH: self._ready,
            "/state.json": self._record,
            "/events.json": self._events,
            "/metrics": self._metrics,
            "/still.jpg": self._still,
            "/view.jpg": self._view,
        }
        for path, (name, kind) in _FILES.items():
            data = files("edge.outputs.web").joinpath(name).read_bytes()
            self._routes[path] = partial(self._file, kind, data)

    async def answer(self, request: web.BaseRequest, connection: Connection) -> web.StreamResponse:
        if (refused := self._improper(request)) is not None:
            return refused
        path, _, query = request.raw_path.partition("?")
        try:
            fields = parse_qs(query, errors="replace", max_num_fields=_FIELDS_MAX)
        except ValueError:
            return self._refuse(HTTPStatus.BAD_REQUEST, "malformed", "malformed query")
        asked = Asked(
            path, {key: value[0] for key, value in fields.items()}, request.headers, connection.peer
        )
        if (refusal := self._access.refusal(asked)) is not None:
            answer = self._refuse(refusal.status, refusal.reason, refusal.text)
            if refusal.retry_s is not None:
                answer.headers["Retry-After"] = str(refusal.retry_s)
            if refusal.status == HTTPStatus.UNAUTHORIZED:
                answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        if path == "/live.mjpg":
            return await self._stream(request, connection, asked)
        if path.startswith(EVENTS_PREFIX):
            return await send_event_file(request, connection, self._state.store, path)
        route = self._routes.get(path)
        if route is None:
            answer = plain(HTTPStatus.NOT_FOUND, "there is no such page")
        else:
            answer = await route(asked)
        self._give_cookie(answer, asked)
        return answer

    def _improper(self, request: web.BaseRequest) -> web.Response | None:
        """Refuse requests that no browser or monitoring tool sends."""
        if request.method not in ("GET", "HEAD"):
            answer = self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "method", "only GET and HEAD")
            answer.headers["Allow"] = "GET, HEAD"
        elif request.body_exists:
            answer = self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body", "no body allowed")
        elif len(request.headers.getall("Host", [])) > 1:
            answer = self._refuse(HTTPStatus.BAD_REQUEST, "malformed", "more than one Host header")
        else:
            return None
        answer.force_close()
        return answer

    def _refuse(self, status: HTTPStatus, reason: str, text: str) -> web.Response:
        self._counts[reason] += 1
        return plain(status, text)

    def _give_cookie(self, answer: web.StreamResponse, asked: Asked) -> None:
        if answer.status == HTTPStatus.OK and self._access.earns_cookie(asked):
            name, value = self._access.cookie
            answer.set_cookie(name, value, path="/", httponly=True, samesite="Strict")

    async def _in_thread(self, ask: Callable[..., Result], *arguments: object) -> Result:
        """Run a function that takes milliseconds, without blocking other requests."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, ask, *arguments)

    async def _file(self, kind: str, data: bytes, _: Asked) -> web.Response:
        return whole(kind, data)

    async def _live(self, _: Asked) -> web.Response:
        if self._state.alive():
            return plain(HTTPStatus.OK, "ok")
        return plain(HTTPStatus.SERVICE_UNAVAILABLE, "the run hangs; start it again")

    async def _ready(self, _: Asked) -> web.Response:
        if self._state.ready():
            return plain(HTTPStatus.OK, "ok")
        return plain(HTTPStatus.SERVICE_UNAVAILABLE, "no labels come")

    async def _record(self, _: Asked) -> web.Response:
        return _json(await self._in_thread(self._state.record))

    async def _events(self, asked: Asked) -> web.Response:
        """The newest recorded events, or those before ?before=ID."""
        before, store = asked.query.get("before", ""), self._state.store
        if store is None:
            return plain(HTTPStatus.NOT_FOUND, "this run records no events; give --events DIR")
        if before and not BEFORE.fullmatch(before):
            return plain(HTTPStatus.BAD_REQUEST, "before: give an event's id, or its beginning")
        return _json(await self._in_thread(event_list, store, before))

    async def _metrics(self, _: Asked) -> web.Response:
        def text() -> bytes:
            refused = {reason: self._counts[reason] for reason in _REASONS}
            return metrics_text(self._state.metrics(), self._state.working(), refused)

        data = await self._in_thread(text)
        return whole("text/plain; version=0.0.4; charset=utf-8", data)

    async def _still(self, asked: Asked) -> web.Response:
        """The newest picture of ?source=NAME. Its number is the ETag: who has it gets none."""
        name = self._state.name_of(asked.query.get("source", ""))
        picture = None if name is None else await self._in_thread(self._state.picture, name, 0, 0.0)
        if picture is None:
            return plain(HTTPStatus.NOT_FOUND, "no picture of that source")
        tag = f'"{picture[0]}"'
        has_it = asked.headers.get("If-None-Match") == tag
        answer = whole("image/jpeg", picture[1]) if not has_it else _unchanged()
        answer.headers["ETag"] = tag
        return answer

    async def _view(self, asked: Asked) -> web.Response:
        """The newest picture of ?source=NAME without labels, to draw a region or a mask on."""
        name = self._state.name_of(asked.query.get("source", ""))
        data = None if name is None else await self._in_thread(self._state.bare_picture, name)
        if data is None:
            return plain(HTTPStatus.NOT_FOUND, "no picture of that source")
        return whole("image/jpeg", data)

    async def _stream(
        self, request: web.BaseRequest, connection: Connection, asked: Asked
    ) -> web.StreamResponse:
        """Send Motion JPEG of ?source=NAME, at most _PICTURES_PER_S, until the source ends.
        Cancelled when the viewer disconnects; a slow viewer gets fewer pictures."""
        name = self._state.name_of(asked.query.get("source", ""))
        if name is None:
            return plain(HTTPStatus.NOT_FOUND, "there is no such source")
        kind = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
        if request.method == "HEAD":
            return whole(kind, b"")
        if self._viewers >= self._viewers_max:
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "viewers", "too many viewers")
        self._viewers += 1
        try:
            connection.begin_stream()
            response = web.StreamResponse(headers=HEADERS | {"Content-Type": kind})
            response.force_close()
            self._give_cookie(response, asked)
            await response.prepare(request)
            await self._send_pictures(response, connection, name)
            return response
        finally:
            self._viewers -= 1

    async def _send_pictures(
        self, response: web.StreamResponse, connection: Connection, name: str
    ) -> None:
        number = 0
        while self._state.name_of(name) is not None:
            picture = await self._in_thread(self._state.picture, name, number, 0.0)
            if picture is not None:
                number, data = picture
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}"
                connection.end_within(_PICTURE_S)
                await response.write(f"{head}\r\n\r\n".encode() + data + b"\r\n")
            await asyncio.sleep(1 / _PICTURES_PER_S)
            while connection.is_behind:
                await asyncio.sleep(1 / _PICTURES_PER_S)
            connection.end_within(None)


def _unchanged() -> web.Response:
    return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=HEADERS)


def _json(record: object) -> web.Response:
    return whole("application/json", json.dumps(record, separators=(",", ":")).encode())
