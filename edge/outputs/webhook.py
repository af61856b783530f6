"""Posts actions and camera states as JSON to a URL, each once and in order."""

from __future__ import annotations

import base64
import http.client
import json
import logging
import queue
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from edge.decision.events import Event
from edge.errors import OutputError
from edge.outputs.base import Output
from edge.outputs.records import event_record, state_record
from edge.sources.reconnect import SourceState

logger = logging.getLogger(__name__)

BUFFER = 1000
TRIES = 6  # over about a minute
TIMEOUT_S = 5.0  # for a whole delivery, however slowly the server answers
_FIRST_S, _LONGEST_S = 0.5, 30.0
_END_S = 0.5  # at the end, for delivering waiting messages
_ANSWER_BYTES = 4096  # read of an answer as a courtesy; nothing in it is used
# what connecting, a bad URL and an answer can raise; ValueError: a chunk of negative size
_FAULTS = (OSError, ValueError, http.client.HTTPException)


class Webhook(Output):
    """with Webhook("https://host/path") as hook: hook.on_event(event)

    A failed delivery is retried with growing pauses. After TRIES, or when BUFFER messages are
    waiting, a message is lost, counted and logged. An answer of 3xx or 4xx is final: a retry would
    get the same answer, and a redirect leads to a URL that the user did not choose.
    """

    def __init__(self, url: str) -> None:
        """Raises OutputError if `url` is not a web address."""
        self._url, self._headers, host = parse_webhook(url)
        # without path and query, which may hold tokens
        self._name = f"webhook at {host}"
        self._waiting: queue.Queue[bytes] = queue.Queue(BUFFER)
        self._over = threading.Event()
        self.lost = 0

    def __enter__(self) -> Webhook:
        self._thread = threading.Thread(target=self._deliver_all, daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        deadline_s = time.monotonic() + _END_S
        while self.undelivered and time.monotonic() < deadline_s:
            time.sleep(0.01)
        undelivered = self.undelivered
        self._over.set()
        if undelivered or self.lost:
            lost = undelivered + self.lost
            logger.warning("%s: %d messages were not delivered", self._name, lost)

    @property
    def undelivered(self) -> int:
        """The number of messages that are waiting or being sent."""
        return self._waiting.unfinished_tasks

    def on_event(self, event: Event) -> None:
        self._enqueue(event_record(event))

    def on_source_state(self, state: SourceState) -> None:
        self._enqueue(state_record(state))

    def _enqueue(self, record: dict[str, Any]) -> None:
        record = record | {"clock": round(time.time(), 3)}
        try:
            self._waiting.put_nowait(json.dumps(record).encode())
        except queue.Full:
            self._lose(f"{BUFFER} messages are waiting")

    def _deliver_all(self) -> None:
        while not self._over.is_set():
            try:
                data = self._waiting.get(timeout=0.2)
            except queue.Empty:
                continue
            self._deliver(data)
            self._waiting.task_done()

    def _deliver(self, data: bytes) -> None:
        fault = ""
        for number in range(TRIES):
            try:
                status = post(self._url, data, self._headers)
            except _FAULTS as error:
                fault = _reason(error)
            else:
                if 200 <= status < 300:
                    return
                fault = f"it answers {status}"
                if 300 <= status < 400:
                    fault += ", a redirect, which is not followed; give the address it leads to"
                if 300 <= status < 500:
                    break
            if self._over.wait(min(_FIRST_S * 2**number, _LONGEST_S)):
                return
        self._lose(fault)

    def _lose(self, reason: str) -> None:
        self.lost += 1
        if self.lost & (self.lost - 1) == 0:  # the first, second, fourth, ...
            logger.warning("%s: %s; %d messages lost so far", self._name, reason, self.lost)


def post(url: str, data: bytes, headers: dict[str, str]) -> int:
    """Send `data` once and return the status of the answer, within TIMEOUT_S. Only the status line
    counts; what follows it may be missing or broken.

    Uses the proxy of the environment, if any, and follows no redirect. Raises OSError, ValueError
    or HTTPException if there is no answer.
    """
    with _cut_off() as connect:
        # no redirects, and of all schemes only these two
        opener = urllib.request.OpenerDirector()
        for handler in (urllib.request.ProxyHandler(), _HTTP(connect), _HTTPS(connect)):
            opener.add_handler(handler)
        request = urllib.request.Request(url, data, headers, method="POST")
        answer = opener.open(request, timeout=TIMEOUT_S)
        with answer, suppress(*_FAULTS):
            answer.read(_ANSWER_BYTES)
        return int(answer.status)


Connect = Callable[..., socket.socket]


@contextmanager
def _cut_off() -> Iterator[Connect]:
    """A function that connects sockets, which are shut down after TIMEOUT_S.

    The timeout of a socket counts for each read alone: with a byte each second it never expires.
    """
    deadline_s = time.monotonic() + TIMEOUT_S
    handles: list[socket.socket] = []
    over = threading.Event()

    def cut() -> None:
        over.set()
        for handle in handles:
            with suppress(OSError):  # it is closed already
                handle.shutdown(socket.SHUT_RDWR)

    def connect(address: tuple[str, int], *_: Any) -> socket.socket:
        fault: OSError = TimeoutError("timed out")
        for family, kind, protocol, _name, place in socket.getaddrinfo(
            *address, type=socket.SOCK_STREAM
        ):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                break
            connection = socket.socket(family, kind, protocol)
            connection.settimeout(left_s)
            try:
                connection.connect(place)
            except OSError as error:
                connection.close()
                fault = error
                continue
            # a duplicate, since TLS takes over the socket itself
            handles.append(connection.dup())
            if over.is_set():
                cut()
            return connection
        raise fault

    timer = threading.Timer(TIMEOUT_S, cut)
    timer.daemon = True
    timer.start()
    try:
        yield connect
    except _FAULTS:
        if over.is_set():
            raise TimeoutError("timed out") from None
        raise
    finally:
        timer.cancel()
        for handle in handles:
            handle.close()


class _Answer(http.client.HTTPResponse):
    """An answer that keeps its status even if the headers after it are broken or missing."""

    def begin(self) -> None:
        try:
            super().begin()
        except _FAULTS:
            if not isinstance(self.status, int):  # even the status line could not be read
                raise
            self.headers = self.msg = http.client.HTTPMessage()
            self.chunked, self.length, self.will_close = False, 0, True


class _HTTP(urllib.request.HTTPHandler):
    def __init__(self, connect: Connect) -> None:
        super().__init__()
        self._connect = connect

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._connection, req)  # type: ignore[arg-type]

    def _connection(self, host: str, **options: Any) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(host, **options)
        connection._create_connection = self._connect  # type: ignore[attr-defined]
        connection.response_class = _Answer
        return connection


class _HTTPS(urllib.request.HTTPSHandler):
    def __init__(self, connect: Connect) -> None:
        super().__init__()
        self._connect = connect

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._connection, req)  # type: ignore[arg-type]

    def _connection(self, host: str, **options: Any) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(host, **options)
        connection._create_connection = self._connect  # type: ignore[attr-defined]
        connection.response_class = _Answer
        return connection


def parse_webhook(url: str) -> tuple[str, dict[str, str], str]:
    """The URL without user and password, the headers (with them), and the host. Messages may show
    the host but no other part of the URL. Raises OutputError if it is not a web address."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its message would repeat the URL
        host, port = None, None
    if host is None or parts.scheme not in ("http", "https"):
        raise OutputError("--webhook: give an address that begins with http:// or https://")
    if not all("!" <= c <= "~" for c in url):
        raise OutputError("--webhook: write characters of the address that are not ASCII as %XX")
    headers = {"Content-Type": "application/json", "User-Agent": "twostream"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    place = f"[{host}]" if ":" in host else host
    place += f":{port}" if port is not None else ""
    return urlunsplit((parts.scheme, place, parts.path, parts.query, "")), headers, host


def _reason(error: Exception) -> str:
    """The reason as text that holds neither the URL nor anything that the server sent."""
    if isinstance(error, http.client.HTTPException):
        return "it does not answer in HTTP"
    reason = getattr(error, "reason", error)  # urllib's URLError wraps the cause
    if isinstance(reason, http.client.HTTPException):
        return "it does not answer in HTTP"
    if isinstance(reason, ValueError):  # its text may hold the URL of a proxy
        return "its address or that of its proxy is invalid"
    text = getattr(reason, "strerror", None) or str(reason)
    return "".join(c if c.isprintable() else " " for c in text)
