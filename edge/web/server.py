"""The HTTP side of the page: the standard library's server, a thread a request."""

from __future__ import annotations

import hmac
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from edge.errors import SinkError
from edge.web.address import ListenAddress
from edge.web.state import LiveState

VIEWERS_MAX = 8  # of the picture stream; each has a thread
_PICTURES_PER_S = 15
_BOUNDARY = "picture"
_COOKIE = "twostream"


class WebServer:
    """with WebServer(parse_listen("--web", "8080", ""), state) as server: print(server.url)"""

    def __init__(self, address: ListenAddress, state: LiveState) -> None:
        """Raises SinkError where the port cannot be had."""
        page = files("edge.web").joinpath("page.html").read_bytes()
        viewers = threading.BoundedSemaphore(VIEWERS_MAX)
        self._over = threading.Event()

        class Handler(_Handler):
            context = _Context(state, address.token, page, viewers, self._over)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET

        try:
            self._server = Server((address.host, address.port), Handler)
        except OSError as error:
            raise SinkError(
                f"--web: {address.host}:{address.port} cannot be listened on ({error.strerror})"
            ) from None
        self.url = f"http://{address.url_host}:{self._server.server_address[1]}/"

    def __enter__(self) -> WebServer:
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass(frozen=True, slots=True)
class _Context:
    state: LiveState
    token: str
    page: bytes
    viewers: threading.BoundedSemaphore
    over: threading.Event


class _Handler(BaseHTTPRequestHandler):
    context: _Context
    server_version, sys_version = "twostream", ""
    timeout = 30  # of a client that says or takes nothing

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/healthz":  # says nothing of what is seen
            healthy = self.context.state.healthy()
            status = HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
            self._send(status, "text/plain", b"ok\n" if healthy else b"no labels come\n")
            return
        if not self._may_look():
            self._send(HTTPStatus.UNAUTHORIZED, "text/plain", b"open this page with ?token=TOKEN\n")
            return
        routes: dict[str, Callable[[], None]] = {
            "/": lambda: self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.context.page),
            "/state.json": self._send_state,
            "/metrics": self._send_metrics,
            "/live.mjpg": self._send_pictures,
            "/still.jpg": self._send_still,
        }
        route = routes.get(path)
        if route is None:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"there is no such page\n")
        else:
            route()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: addresses hold the token, and the terminal is the run's."""

    def _may_look(self) -> bool:
        token = self.context.token
        if not token:
            return True
        given = self._query("token")
        header = self.headers.get("Authorization", "")
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(_COOKIE)
        except CookieError:
            cookie = None
        offered = (given, header.removeprefix("Bearer "), cookie.value if cookie else "")
        return any(hmac.compare_digest(text.encode(), token.encode()) for text in offered)

    def _query(self, name: str) -> str:
        return parse_qs(urlsplit(self.path).query).get(name, [""])[0]

    def _send_state(self) -> None:
        data = json.dumps(self.context.state.record(), separators=(",", ":")).encode()
        self._send(HTTPStatus.OK, "application/json", data)

    def _send_metrics(self) -> None:
        data = self.context.state.metrics().encode()
        self._send(HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", data)

    def _send_still(self) -> None:
        """The newest picture of ?source=NAME."""
        found = self.context.state.picture(self._query("source"), 0, timeout_s=0.0)
        if found is None:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"no picture of that source yet\n")
        else:
            self._send(HTTPStatus.OK, "image/jpeg", found[1])

    def _send_pictures(self) -> None:
        """Motion JPEG of ?source=NAME, at most _PICTURES_PER_S; a slow viewer gets fewer."""
        context = self.context
        if not context.viewers.acquire(blocking=False):
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"too many viewers\n")
            return
        try:
            self._head(HTTPStatus.OK, f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
            self.end_headers()
            number, source = 0, self._query("source")
            while not context.over.is_set():
                found = context.state.picture(source, number, timeout_s=1.0)
                if found is None:
                    continue
                number, data = found
                part = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\n"
                self.wfile.write(f"{part}Content-Length: {len(data)}\r\n\r\n".encode() + data)
                self.wfile.write(b"\r\n")
                context.over.wait(1 / _PICTURES_PER_S)
        except OSError:  # the viewer has gone
            pass
        finally:
            context.viewers.release()

    def _send(self, status: HTTPStatus, kind: str, data: bytes) -> None:
        try:
            self._head(status, kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            self.close_connection = True

    def _head(self, status: HTTPStatus, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header(
            "Content-Security-Policy",
            "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'",
        )
        query = parse_qs(urlsplit(self.path).query)
        if status == HTTPStatus.OK and self.context.token and "token" in query:
            token = SimpleCookie({_COOKIE: self.context.token})
            morsel = token[_COOKIE]
            morsel["httponly"], morsel["samesite"], morsel["path"] = True, "Strict", "/"
            self.send_header("Set-Cookie", morsel.OutputString())
