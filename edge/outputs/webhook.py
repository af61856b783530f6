"""Posts actions and camera states to a URL, in order: as JSON, or with the picture of an action as
multipart/form-data (RFC 7578)."""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from edge.decision.events import Event
from edge.errors import OutputError
from edge.outputs.base import Output
from edge.outputs.health import OutputHealth
from edge.outputs.http_post import FAULTS, fault_text, post
from edge.outputs.records import event_record, state_record
from edge.sources.reconnect import SourceState

BUFFER, BUFFER_BYTES = 1000, 16 << 20  # messages that wait, and all their bytes
GIVE_UP_S = 300.0  # a message is tried for so long, counted from its first try
END_S = 10.0  # at the end of the run, for delivering what waits
_FIRST_S, _LONGEST_S = 0.5, 30.0  # pauses after failures: doubled each time
_ASKED_MAX_S = 120.0  # the longest pause that a server can ask for
_TRANSIENT = 3  # failures in a row; fewer are not worth a word
_RETRIED = (408, 429)  # besides 5xx


@dataclass(frozen=True, slots=True)
class _Message:
    """headers: with the id of what it tells, the same at each try, for receivers that got it but
    whose answer was lost."""

    source: str
    data: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Refusal:
    """final: another try would get the same answer."""

    reason: str
    final: bool
    asked_s: float = 0.0


class Webhook(Output):
    """with Webhook("https://host/path") as hook: hook.on_event(event)

    A delivery that fails is tried again with growing pauses, or when the server asks, and those
    after it wait. After GIVE_UP_S, or when BUFFER messages are waiting, a message is lost and
    counted. So is one that is answered with 3xx or 4xx, but for 408 and 429: a retry would get the
    same answer, and a redirect leads to a URL that the user did not choose.
    """

    health: OutputHealth

    def __init__(self, url: str, picture: Callable[[Event], bytes] | None = None) -> None:
        """picture: gives the JPEG of an action that has just started; None: send no pictures.
        Raises OutputError if `url` is not a web address."""
        self._picture = picture
        # of the address only the host is shown: path and query may hold tokens
        self._url, self._headers, self._host = parse_webhook(url)
        self.health = OutputHealth("webhook", "messages not delivered")
        self._news = threading.Condition()
        self._waiting: deque[_Message] = deque()  # the first is being tried
        self._closing = threading.Event()
        self._failures = 0  # in a row
        self._resume_s = 0.0  # not before this time is the next try

    def __enter__(self) -> Webhook:
        self._thread = threading.Thread(target=self._deliver_all, daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Deliver what waits, within END_S; a failure ends it. What is left then is lost."""
        with self._news:
            self._closing.set()
            self._news.notify_all()
        self._thread.join(END_S)
        with self._news:
            for message in self._waiting:
                self.health.lose(message.source)
            self._waiting.clear()

    @property
    def undelivered(self) -> int:
        """The number of messages that are waiting or being sent."""
        with self._news:
            return len(self._waiting)

    def on_event(self, event: Event) -> None:
        wanted = self._picture is not None and event.kind == "start"
        picture = self._picture(event) if wanted and self._picture is not None else None
        self._enqueue(event.source, event_record(event), picture)

    def on_source_state(self, state: SourceState) -> None:
        self._enqueue(state.name, state_record(state))

    def _enqueue(self, source: str, record: dict[str, Any], picture: bytes | None = None) -> None:
        data = json.dumps(record | {"clock": round(time.time(), 3)}).encode()
        headers = self._headers | {"Idempotency-Key": record["id"]}
        if picture is not None:
            data, headers["Content-Type"] = form_data(data, picture, record["id"])
        message = _Message(source, data, headers)
        with self._news:
            waiting = sum(len(each.data) for each in self._waiting)
            if len(self._waiting) < BUFFER and waiting + len(data) <= BUFFER_BYTES:
                self._waiting.append(message)
                self._news.notify_all()
                return
            count = len(self._waiting)
        self._lose(message, f"{count} messages are waiting")

    def _deliver_all(self) -> None:
        while (message := self._next()) is not None:
            if not self._deliver(message):
                return
            with self._news:
                if self._waiting:  # not counted as lost meanwhile
                    self._waiting.popleft()

    def _next(self) -> _Message | None:
        """The message whose turn it is; None: the run has ended and none is left."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._closing.is_set())
            return self._waiting[0] if self._waiting else None

    def _deliver(self, message: _Message) -> bool:
        """Try a message until it is delivered or lost. Returns False if the run ends before."""
        first_s = time.monotonic()
        while True:
            self._closing.wait(max(self._resume_s - time.monotonic(), 0.0))
            refusal = self._try(message)
            if refusal is None or refusal.final:
                self._failures, self._resume_s = 0, 0.0
                if refusal is None:
                    self.health.recover()
                else:
                    self._lose(message, refusal.reason)
                return True
            if self._closing.is_set():
                return False
            pause_s = min(_FIRST_S * 2 ** min(self._failures, 10), _LONGEST_S)
            pause_s = max(pause_s, min(refusal.asked_s, _ASKED_MAX_S))
            self._failures += 1
            self._resume_s = time.monotonic() + pause_s
            if self._resume_s - first_s > GIVE_UP_S:
                self._lose(message, refusal.reason)
                return True
            if self._failures >= _TRANSIENT:
                self.health.fail(f"{self._host}: {refusal.reason}; messages wait")

    def _try(self, message: _Message) -> _Refusal | None:
        """None: it is delivered."""
        try:
            answer = post(self._url, message.data, message.headers)
        except FAULTS as error:
            return _Refusal(fault_text(error), final=False)
        status, reason = answer.status, f"it answers {answer.status}"
        if 200 <= status < 300:
            return None
        if 300 <= status < 400:
            reason += ", a redirect, which is not followed; give the address it leads to"
        final = status not in _RETRIED and not 500 <= status < 600
        return _Refusal(reason, final, answer.retry_after_s or 0.0)

    def _lose(self, message: _Message, reason: str) -> None:
        self.health.lose(message.source)
        self.health.fail(f"{self._host}: {reason}; a message is lost, and more are counted")


def form_data(record: bytes, picture: bytes, event_id: str) -> tuple[bytes, str]:
    """A body with the parts `event`, JSON, and `picture`, a JPEG; and its Content-Type."""
    boundary = f"twostream-{secrets.token_hex(16)}"
    parts = (
        ('name="event"', "application/json", record),
        (f'name="picture"; filename="{event_id}.jpg"', "image/jpeg", picture),
    )
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {name}\r\n"
        f"Content-Type: {kind}\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, kind, data in parts
    )
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


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
