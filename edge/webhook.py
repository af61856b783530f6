"""Actions and camera states as JSON to somebody's web address, each once, in order."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
import urllib.error
import urllib.request
from types import TracebackType
from urllib.parse import urlsplit

from edge.errors import SinkError
from edge.listener import Listener, Notice
from edge.report import notice_record

logger = logging.getLogger(__name__)

BUFFER = 1000
TRIES = 6  # over about a minute
_FIRST_S, _LONGEST_S, _TIMEOUT_S = 0.5, 30.0, 5.0
_END_S = 0.5  # for what waits at the end


class Webhook(Listener):
    """with Webhook("https://host/path") as hook: hook.tell(event)

    A delivery that fails is tried again with longer and longer pauses, then given up, counted and
    said, as is what comes while BUFFER of them wait. An answer of 4xx is final: the same request
    would get it again.
    """

    def __init__(self, url: str) -> None:
        """Raises SinkError where it is no web address."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SinkError("--webhook: give an address that begins with http:// or https://")
        # tokens are kept in paths and queries of such addresses
        self._name = f"webhook at {parts.hostname}"
        self._url = url
        self._waiting: queue.Queue[bytes] = queue.Queue(BUFFER)
        self._over = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self.lost = 0

    def __enter__(self) -> Webhook:
        self._thread = threading.Thread(target=self._deliver_all, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        deadline_s = time.monotonic() + _END_S
        while time.monotonic() < deadline_s and not (self._waiting.empty() and self._idle.is_set()):
            time.sleep(0.01)
        left = self._waiting.qsize() + (not self._idle.is_set())
        self._over.set()
        if left or self.lost:
            logger.warning("%s: %d messages were not delivered", self._name, left + self.lost)

    def tell(self, notice: Notice) -> None:
        record = notice_record(notice) | {"clock": round(time.time(), 3)}
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
            self._idle.clear()
            self._deliver(data)
            self._idle.set()

    def _deliver(self, data: bytes) -> None:
        fault = ""
        for number in range(TRIES):
            try:
                headers = {"Content-Type": "application/json", "User-Agent": "twostream"}
                request = urllib.request.Request(self._url, data, headers)
                with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
                    return
            except urllib.error.HTTPError as error:
                fault = f"it answers {error.code}"
                if 400 <= error.code < 500:
                    break
            except (OSError, ValueError) as error:
                fault = str(getattr(error, "reason", error))
            if self._over.wait(min(_FIRST_S * 2**number, _LONGEST_S)):
                return
        self._lose(fault)

    def _lose(self, reason: str) -> None:
        self.lost += 1
        if self.lost & (self.lost - 1) == 0:  # the first, second, fourth, ...
            logger.warning("%s: %s; %d messages lost so far", self._name, reason, self.lost)
