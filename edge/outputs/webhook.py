"""Actions and camera states as JSON to somebody's web address, each once, in order."""

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
TIMEOUT_S = 5.0  # of a whole delivery, however slowly the other end speaks
_FIRST_S, _LONGEST_S = 0.5, 30.0
_END_S = 0.5  # for what waits at the end
_ANSWER_BYTES = 4096  # read of an answer, out of courtesy: nothing in it is used
# what a connection, an address and an answer can raise; ValueError: a chunk of a negative size
_FAULTS = (OSError, ValueError, http.client.HTTPException)


class Webhook(Output):
    """with Webhook("https://host/path") as hook: hook.on_event(event)

    A delivery that fails is tried again with longer and longer pauses, then given up, counted and
    said, as is what comes while BUFFER of them wait. An answer of 3xx or 4xx is final: the same
    request would get it again, and where it leads is not where the user sent it.
    """

    def __init__(self, url: str) -> None:
        """Raises OutputError where it is no web address."""
        self._url, self._headers, host = parse_webhook(url)
        # tokens are kept in paths and queries of such addresses
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
        left = self.undelivered
        self._over.set()
        if left or self.lost:
            logger.warning("%s: %d messages were not delivered", self._name, left + self.lost)

    @property
    def undelivered(self) -> int:
        """Messages that wait, with the one that is under way."""
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
            self._lose(f"{BUFFER} messages wait")

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
    """Send `data` once and return the answer's status, whatever it is, within TIMEOUT_S. What
    comes after the status line, or does not, changes nothing: the other end has said it.

    Through the proxy of the environment, if any; to nowhere else. Raises OSError, ValueError or
    HTTPException where there is no answer.
    """
    with _cut_off() as connect:
        # no redirects, and of all that urllib can open only these two
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
    """What connects sockets, which are shut down once TIMEOUT_S is over.

    A time-out of a socket is one of each read: a byte every second would hold it for ever.
    """
    deadline_s = time.monotonic() + TIMEOUT_S
    handles: list[socket.socket] = []
    over = threading.Event()

    def cut() -> None:
        over.set()
        for handle in handles:
            with suppress(OSError):  # it has gone already
                handle.shutdown(socket.SHUT_RDWR)

    def connect(address: tuple[str, int], *_: Any) -> socket.socket:
        fault: OSError = TimeoutError("timed out")
        for family, kind, protocol, _name, place in socket.getaddrinfo(
            *address, type=socket.SOCK_STREAM
        ):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                break
            made = socket.socket(family, kind, protocol)
            made.settimeout(left_s)
            try:
                made.connect(place)
            except OSError as error:
                made.close()
                fault = error
                continue
            # TLS takes the first over; both are one connection
            handles.append(made.dup())
            if over.is_set():
                cut()
            return made
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
    """One that holds its status even where its head is broken or breaks off after it."""

    def begin(self) -> None:
        try:
            super().begin()
        except _FAULTS:
            if not isinstance(self.status, int):  # the status line was not read
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
        made = http.client.HTTPConnection(host, **options)
        made._create_connection = self._connect  # type: ignore[attr-defined]
        made.response_class = _Answer
        return made


class _HTTPS(urllib.request.HTTPSHandler):
    def __init__(self, connect: Connect) -> None:
        super().__init__()
        self._connect = connect

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._connection, req)  # type: ignore[arg-type]

    def _connection(self, host: str, **options: Any) -> http.client.HTTPSConnection:
        made = http.client.HTTPSConnection(host, **options)
        made._create_connection = self._connect  # type: ignore[attr-defined]
        made.response_class = _Answer
        return made


def parse_webhook(url: str) -> tuple[str, dict[str, str], str]:
    """The address without user and password, the headers, which have them, and the host. No part
    of the address but the host may be in a message. Raises OutputError where it is none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # the message would repeat it
        host, port = None, None
    if host is None or parts.scheme not in ("http", "https"):
        raise OutputError("--webhook: give an address that begins with http:// or https://")
    if not all("!" <= c <= "~" for c in url):
        raise OutputError("--webhook: in the address write what is not a plain ASCII letter as %XX")
    headers = {"Content-Type": "application/json", "User-Agent": "twostream"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    place = f"[{host}]" if ":" in host else host
    place += f":{port}" if port is not None else ""
    return urlunsplit((parts.scheme, place, parts.path, parts.query, "")), headers, host


def _reason(error: Exception) -> str:
    """In words that hold neither the address nor anything that the other end has sent."""
    if isinstance(error, http.client.HTTPException):
        return "it does not answer in HTTP"
    reason = getattr(error, "reason", error)  # urllib's URLError has the cause in it
    if isinstance(reason, http.client.HTTPException):
        return "it does not answer in HTTP"
    if isinstance(reason, ValueError):  # its text may hold the address of a proxy
        return "its address, or that of its proxy, cannot be used"
    text = getattr(reason, "strerror", None) or str(reason)
    return "".join(c if c.isprintable() else " " for c in text)
