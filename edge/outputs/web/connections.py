"""Connections to the page, with limits on their number, duration and requests.

aiohttp handles HTTP; the accept loop is ours, so that a new connection always gets in. At the
limit, the connection that has been without an answer longest is closed: one that sends its request
byte by byte, does not read its answer, or is idle.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web

from edge.outputs.web.access import peer_of
from edge.outputs.web.answers import bad_request, plain

BACKLOG = 128
CONNECTIONS_MAX = 64
HEAD_S = 10.0  # for all headers of a request, from the connection or the last answer on
ANSWER_S = 20.0  # for creating and sending an answer
PAUSE_S = 0.5  # when the process or the machine is out of file handles
_HEAD_BYTES = 8190  # of the request line, and of each header
_FIELDS_MAX = 64
_PACE_S = 0.002  # between accepts, so that a flood does not occupy a core
_SEND_BYTES = 256 << 10  # the kernel's send buffer for each connection
_STREAM_BYTES = 64 << 10  # and for a stream, so that a client that does not read shows soon
# (requests a second, burst): the page sends 2.5 a second
_RATE, _RATE_IN_ALL = (20.0, 20), (400.0, 100)
_OUT_OF_HANDLES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
REASONS = ("malformed", "slow", "evicted", "no_handles", "fault")

_log = logging.getLogger(__name__)
Answer = Callable[["web.BaseRequest", "Connection"], Awaitable[web.StreamResponse]]


def connections_max() -> int:
    """At most a quarter of the file handles; the others are for cameras and recordings."""
    return max(4, min(CONNECTIONS_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    dual = host == "::" and socket.has_dualstack_ipv6()
    listener = socket.create_server(
        (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=dual
    )
    listener.setblocking(False)
    # accepted sockets inherit it: a client that does not read costs no more memory than this
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
    return listener


class Connections:
    """All open connections. Used by the thread of the event loop alone.

    counts: faults, by REASONS. most: the limit; one peer may have three quarters of it.
    """

    def __init__(self, answer: Answer, counts: Counter[str], most: int) -> None:
        self._answer, self._counts = answer, counts
        self._most, self._most_of_peer = most, max(1, most * 3 // 4)
        self._open: dict[Connection, None] = {}  # longest without an answer first
        self._peers: Counter[str] = Counter()
        self._pace = _Pace(*_RATE_IN_ALL)
        # the handler is cancelled if its client disconnects
        self._server = web.Server(self._handle, handler_cancellation=True)

    async def accept(self, listener: socket.socket) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, (host, *_) = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in _OUT_OF_HANDLES:
                    self._counts["no_handles"] += 1
                    await asyncio.sleep(PAUSE_S)  # time to answer the last connection
                    self._evict_from(self._open)
                else:  # it was closed before it was accepted
                    await asyncio.sleep(_PACE_S)
                continue
            peer = peer_of(host)
            self._make_room(peer)
            if len(self._open) >= self._most:  # all are streams
                accepted.close()
            else:
                _enable_keepalive(accepted)
                await loop.connect_accepted_socket(partial(self._connection, peer), accepted)
            await asyncio.sleep(_PACE_S)

    async def close(self) -> None:
        """Abort all connections and wait for their handlers."""
        for connection in list(self._open):
            connection.abort()
        handlers = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*handlers, return_exceptions=True)

    def opened(self, connection: Connection) -> None:
        self._open[connection] = None
        self._peers[connection.peer] += 1

    def answered(self, connection: Connection) -> None:
        if connection in self._open:
            del self._open[connection]
            self._open[connection] = None

    def closed(self, connection: Connection) -> None:
        if connection in self._open:
            del self._open[connection]
            self._peers[connection.peer] -= 1
            if not self._peers[connection.peer]:
                del self._peers[connection.peer]

    def _connection(self, peer: str) -> Connection:
        return Connection(self, self._server, self._counts, peer)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(Connection, request.protocol)
        connection.end_within(ANSWER_S)
        await connection.pace.wait()
        await self._pace.wait()
        return await self._answer(request, connection)

    def _make_room(self, peer: str) -> None:
        """Make room for a connection from `peer`: close one of its own if it has too many, else one
        of the peer with the most evictable connections, the longest without an answer."""
        evictable = [one for one in self._open if not one.streams]
        if self._peers[peer] >= self._most_of_peer:
            self._evict_from([one for one in evictable if one.peer == peer])
        elif len(self._open) >= self._most and evictable:
            ((crowd, _),) = Counter(one.peer for one in evictable).most_common(1)
            self._evict_from([one for one in evictable if one.peer == crowd])

    def _evict_from(self, connections: Any) -> None:
        oldest = next((one for one in connections if not one.streams), None)
        if oldest is not None:
            self._counts["evicted"] += 1
            oldest.abort()


class _Pace:
    """A rate limit: `rate` a second after a burst of `at_once`, first come, first served. A waiter
    that is cancelled does not count."""

    def __init__(self, rate: float, at_once: int) -> None:
        self._step_s, self._ahead_s = 1 / rate, (at_once - 1) / rate
        self._due_s = 0.0
        self._turn = asyncio.Lock()

    async def wait(self) -> None:
        clock = asyncio.get_running_loop().time
        async with self._turn:
            if (wait_s := self._due_s - self._ahead_s - clock()) > 0:
                await asyncio.sleep(wait_s)
            self._due_s = max(self._due_s, clock()) + self._step_s


class Connection(web.RequestHandler):
    """An aiohttp connection with a deadline, counts instead of log lines, and our error answers.

    streams: it is sent a stream, so it may stay open and is not evicted. pace: of its requests.
    """

    def __init__(
        self, all_: Connections, server: web.Server, counts: Counter[str], peer: str
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=HEAD_S,
            lingering_time=1.0,
            access_log=None,  # type: ignore[arg-type]  # URLs hold the token
            max_line_size=_HEAD_BYTES,
            max_field_size=_HEAD_BYTES,
            max_headers=_FIELDS_MAX,
            auto_decompress=False,
        )
        self.peer, self.streams = peer, False
        self.pace = _Pace(*_RATE)
        self._all, self._counts = all_, counts
        self._wire: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        self._all.opened(self)
        self.end_within(HEAD_S)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.end_within(None)
        self._wire = None
        self._all.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except Exception:  # the parser raises more than its own errors
            self._refuse_unparsed()

    async def start(self) -> None:
        """Answer requests until the connection ends."""
        try:
            await super().start()
        except Exception:  # some parts of a URL are parsed only when the request is created
            self._refuse_unparsed()

    def _refuse_unparsed(self) -> None:
        self._counts["malformed"] += 1
        if self._wire is not None:
            self._wire.write(bad_request())
        self.force_close()

    def end_within(self, seconds: float | None) -> None:
        """Abort after `seconds` unless another deadline is set before; None: no deadline."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None and self._wire is not None:
            self._deadline = asyncio.get_running_loop().call_later(seconds, self._too_slow)

    def abort(self) -> None:
        """Close without sending buffered data."""
        self._all.closed(self)
        if self._wire is not None:
            self._wire.abort()

    def begin_stream(self) -> None:
        """Accept no further requests, and keep reading to notice when the client disconnects."""
        self.streams = True
        self.close()
        if self._wire is not None:
            self._wire.resume_reading()
            opened = self._wire.get_extra_info("socket")
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _STREAM_BYTES)

    @property
    def is_behind(self) -> bool:
        """Whether data is still buffered, because the client reads too slowly."""
        return self._wire is not None and self._wire.get_write_buffer_size() > 0

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._all.answered(self)
            self.end_within(HEAD_S)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a malformed request (400) and to a bug (500)."""
        if isinstance(exc, ConnectionError):
            raise exc
        if status == HTTPStatus.BAD_REQUEST:
            self._counts["malformed"] += 1
        else:
            self.log_exception("a request could not be answered", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("part of the answer was sent already")
        answer = plain(HTTPStatus(status), HTTPStatus(status).phrase)
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **kw: Any) -> None:
        report_fault(self._counts, str(args[0]), kw.get("exc_info"))

    def _too_slow(self) -> None:
        self._counts["slow"] += 1
        self.abort()


def report_fault(counts: Counter[str], text: str, fault: BaseException | None) -> None:
    """Log the first bug with its traceback and only count later ones, so that no client can fill
    the log."""
    counts["fault"] += 1
    if counts["fault"] == 1:
        _log.error("live page: %s; further faults are only counted", text, exc_info=fault)


def _enable_keepalive(accepted: socket.socket) -> None:
    """Let the kernel probe whether the client is still there: after 15 s, then every 5 s."""
    for option, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        accepted.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
