"""Deliveries to servers that redirect, drip, babble or never end."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from edge.decision.events import Event
from edge.errors import OutputError
from edge.outputs import http_post, webhook
from edge.outputs.http_post import post
from edge.outputs.webhook import Webhook
from tests.support.events import make_event
from tests.support.waiting import BOUND_S, wait_until

SECRETS = ("hunter2", "t0ken", "pa55")


class RawServer:
    """Takes connections, reads each request's head and body, then lets `answer` write."""

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        self._answer, self.requests = answer, list[bytes]()
        self.over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            data = b""
            while b"}" not in data and not data.startswith((b"GET", b"\x16")):
                if not (more := connection.recv(65536)):
                    break
                data += more
            self.requests.append(data)
            try:
                self._answer(connection)
            except OSError:
                self.over.set()  # the client has gone

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], None]], RawServer]]:
    servers: list[RawServer] = []

    def start(answer: Callable[[socket.socket], None]) -> RawServer:
        servers.append(RawServer(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


Serve = Callable[[Callable[[socket.socket], None]], RawServer]


def says(text: str) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(text.encode())


def drips(head: str) -> Callable[[socket.socket], None]:
    """`head`, then a byte every so often, without end."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(head.encode())
        while True:
            connection.sendall(b"x")
            time.sleep(0.05)

    return answer


def told_of(url: str, events: list[Event]) -> list[str]:
    """What a webhook says once it has tried the events."""
    with Webhook(url) as hook:
        for one in events:
            hook.on_event(one)
        wait_until(lambda: hook.undelivered == 0)
    return reasons(hook)


def reasons(hook: Webhook) -> list[str]:
    """Why it was failing, each time."""
    return [state.reason for state in hook.health.changes() if state.state == "failing"]


@pytest.mark.parametrize("code", [300, 301, 302, 303, 307, 308])
def test_a_redirect_is_a_failed_delivery(code: int, serve: Serve) -> None:
    elsewhere = serve(says("HTTP/1.1 200 OK\r\n\r\n"))
    hook = serve(says(f"HTTP/1.1 {code} Go\r\nLocation: http://{elsewhere.place}/t0ken\r\n\r\n"))
    said = told_of(f"http://{hook.place}/t0ken", [make_event(0)])
    assert f"it answers {code}, a redirect, which is not followed" in said[0]
    assert len(hook.requests) == 1  # final
    assert elsewhere.requests == []
    assert not any(secret in line for line in said for secret in SECRETS)


@pytest.mark.parametrize("head", ["", "HTTP/1.1 20", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2"])
def test_a_server_that_drips_its_head_is_cut_off(
    head: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_post, "TIMEOUT_S", 0.5)
    server = serve(drips(head))
    with pytest.raises(OSError, match="timed out"):
        post(f"http://{server.place}/", b"{}", {})
    assert server.over.wait(BOUND_S)


@pytest.mark.slow
def test_an_answer_without_end_is_not_read(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_post, "TIMEOUT_S", 3.0)

    def floods(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(bytes(65536))

    for answer in (floods, drips("HTTP/1.1 200 OK\r\n\r\n")):
        server = serve(answer)
        assert post(f"http://{server.place}/", b"{}", {}).status == 200
        assert server.over.wait(BOUND_S)


@pytest.mark.parametrize(
    "rest",
    [
        "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nx\r\n",
        "Transfer-Encoding: chunked\r\n\r\n" + "f" * 40 + "\r\nhello",
        "Content-Length: -5\r\n\r\nhello",
        "Content-Length: 500\r\n\r\nhello",
        "X: y\r\n" * 300 + "\r\n",
        "X: " + "y" * 100_000 + "\r\n\r\n",
        "no colon\r\n\r\n",
        "",
    ],
)
def test_what_follows_the_status_line_does_not_matter(rest: str, serve: Serve) -> None:
    server = serve(says(f"HTTP/1.1 200 OK\r\n{rest}"))
    assert told_of(f"http://{server.place}/", [make_event(0), make_event(1)]) == []
    assert len(server.requests) == 2


def test_a_head_that_drips_after_its_status_is_a_delivery(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_post, "TIMEOUT_S", 0.5)
    server = serve(drips("HTTP/1.1 200 OK\r\nX-Long: "))
    assert post(f"http://{server.place}/", b"{}", {}).status == 200
    assert server.over.wait(10)


def test_a_handshake_that_never_ends_is_cut_off(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_post, "TIMEOUT_S", 0.5)
    server = serve(drips("\x16\x03\x03\x3f\xff"))
    with pytest.raises(OSError, match="timed out"):
        post(f"https://{server.place}/", b"{}", {})
    assert server.over.wait(BOUND_S)


def test_what_is_no_http_is_said_and_the_next_is_delivered(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "GIVE_UP_S", 0.0)
    answers = iter(["\x1b[2Jt0ken\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"])
    server = serve(lambda connection: connection.sendall(next(answers).encode()))
    said = told_of(f"http://{server.place}/", [make_event(0), make_event(1)])
    assert "it does not answer in HTTP; a message is lost" in said[0]
    assert len(server.requests) == 2
    assert "\x1b" not in "".join(said)


def test_a_user_and_password_are_sent_and_never_shown(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(says("HTTP/1.1 401 No\r\n\r\n"))
    said = told_of(f"http://bob:hunter2%40@{server.place}/t0ken?key=pa55", [make_event(0)])
    (request,) = server.requests
    assert b"POST /t0ken?key=pa55 HTTP/1.1" in request
    assert b"Basic " + base64.b64encode(b"bob:hunter2@") in request
    assert b"bob" not in request
    assert "it answers 401" in said[0]
    assert not any(secret in line for line in said for secret in SECRETS)
    monkeypatch.setattr(webhook, "GIVE_UP_S", 0.0)
    said = told_of("http://bob:hunter2@127.0.0.1:9/t0ken?key=pa55", [make_event(0)])
    assert "Connection refused" in said[0]
    assert not any(secret in line for line in said for secret in SECRETS)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/hunter2",
        "file:///etc/hunter2",
        "data:,hunter2",
        "hunter2",
        "http://",
        "http://bob:hunter2/x@host/",
        "http://host:hunter2/",
        "http://[hunter2/",
        "http://host/hunter2 x",
        "http://host/hunter2\r\nX: y",
        "http://host/hunter2\u00e9",
    ],
)
def test_other_addresses_are_refused_unread(url: str) -> None:
    with pytest.raises(OutputError, match=r"^--webhook: ") as caught:
        Webhook(url)
    assert "hunter2" not in str(caught.value)


def test_a_proxy_is_used_and_no_way_out_of_http(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve(says("HTTP/1.1 200 OK\r\n\r\n"))
    monkeypatch.setenv("http_proxy", f"http://{proxy.place}")
    monkeypatch.setenv("no_proxy", "")
    assert post("http://host.invalid/a", b"{}", {}).status == 200
    assert proxy.requests[0].startswith(b"POST http://host.invalid/a HTTP/1.1")
    for other in ("file:///etc/passwd", "ftp://127.0.0.1:9"):
        monkeypatch.setenv("http_proxy", other)
        with pytest.raises(OSError, match=r"no host given|refused"):
            post("http://host.invalid/a", b"{}", {})
