"""Posts data to a web address once, with every bound on what the other end can do.

It has TIMEOUT_S in all, at most ANSWER_BYTES of its answer are read, no redirect is followed, and
of all schemes only http and https are spoken.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

TIMEOUT_S = 30.0  # for a whole delivery, however slowly the server answers
ANSWER_BYTES = 4096  # read of an answer as a courtesy; nothing in it is used
# what connecting, a bad URL and an answer can raise; ValueError: a chunk of negative size
FAULTS = (OSError, ValueError, http.client.HTTPException)


@dataclass(frozen=True, slots=True)
class Answer:
    """retry_after_s: when the server asks to try again, from now; None: it does not say."""

    status: int
    retry_after_s: float | None


def post(url: str, data: bytes, headers: dict[str, str]) -> Answer:
    """Send `data` once, within TIMEOUT_S. Of the answer only the status line and Retry-After count;
    what follows the status line may be missing or broken.

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
        with answer, suppress(*FAULTS):
            answer.read(ANSWER_BYTES)
        return Answer(int(answer.status), _retry_after_s(answer.headers.get("Retry-After")))


def _retry_after_s(text: str | None) -> float | None:
    """Seconds, or a date (RFC 9110, section 10.2.3); None for anything else."""
    text = (text or "").strip()[:40]
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    if when.tzinfo is None:  # "-0000": the time is in UTC
        when = when.replace(tzinfo=timezone.utc)
    return max((when - datetime.now(timezone.utc)).total_seconds(), 0.0)


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
    except FAULTS:
        if over.is_set():
            raise TimeoutError("timed out") from None
        raise
    finally:
        timer.cancel()
        for handle in handles:
            handle.close()


class _Response(http.client.HTTPResponse):
    """An answer that keeps its status even if the headers after it are broken or missing."""

    def begin(self) -> None:
        try:
            super().begin()
        except FAULTS:
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
        connection.response_class = _Response
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
        connection.response_class = _Response
        return connection


def fault_text(error: Exception) -> str:
    """Why `post` failed, as text that holds neither the URL nor anything that the server sent."""
    if isinstance(error, http.client.HTTPException):
        return "it does not answer in HTTP"
    reason = getattr(error, "reason", error)  # urllib's URLError wraps the cause
    if isinstance(reason, http.client.HTTPException):
        return "it does not answer in HTTP"
    if isinstance(reason, ValueError):  # its text may hold the URL of a proxy
        return "its address or that of its proxy is invalid"
    text = getattr(reason, "strerror", None) or str(reason)
    return "".join(c if c.isprintable() else " " for c in text)
