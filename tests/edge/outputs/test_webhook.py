"""Deliveries to servers that redirect, drip, babble or never end."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate

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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_head_that_drips_after_its_status_is_a_delivery(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_post, "TIMEOUT_S", 0.5)
    server = serve(drips("HTTP/1.1 200 OK\r\nX-Long: "))
    assert post(f"http://{server.place}/", b"{}", {}).status == 200
    assert server.over.wait(10)


@pytest.mark.slow
def test_a_handshake_that_never_ends_is_cut_off(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_post, "TIMEOUT_S", 0.5)
    server = serve(drips("\x16\x03\x03\x3f\xff"))
    with pytest.raises(OSError, match="timed out"):
        post(f"https://{server.place}/", b"{}", {})
    assert server.over.wait(BOUND_S)


@pytest.mark.slow
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


def key_of(request: bytes) -> str:
    """The id in the head, which is that in the body, too."""
    head, _, body = request.decode().partition("\r\n\r\n")
    (key,) = (
        line.split(": ")[1]
        for line in head.split("\r\n")
        if line.lower().startswith("idempotency-key: ")
    )
    assert json.loads(body)["id"] == key
    return key


def answers(*texts: str) -> Callable[[socket.socket], None]:
    """Each text once, then 200."""
    left = list(texts)

    def answer(connection: socket.socket) -> None:
        text = left.pop(0) if left else "HTTP/1.1 200 OK\r\n\r\n"
        connection.sendall(text.encode())

    return answer


@pytest.mark.slow
def test_a_slow_receiver_gets_each_event_once_and_in_order(serve: Serve) -> None:
    def slow(connection: socket.socket) -> None:
        time.sleep(6)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    server, events = serve(slow), [make_event(number) for number in range(2)]
    assert told_of(f"http://{server.place}/", events) == []
    assert [key_of(request) for request in server.requests] == [event.id for event in events]


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504, 599])
def test_what_may_pass_is_tried_again_with_the_same_id(
    code: int, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "_FIRST_S", 0.01)
    server = serve(answers(f"HTTP/1.1 {code} No\r\n\r\n", ""))  # then a connection that is closed
    events = [make_event(number) for number in range(2)]
    assert told_of(f"http://{server.place}/", events) == []
    keys = [key_of(request) for request in server.requests]
    assert keys == [events[0].id] * 3 + [events[1].id]


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 409, 410, 413, 422])
def test_what_is_final_is_tried_once_and_counted(code: int, serve: Serve) -> None:
    server = serve(answers(f"HTTP/1.1 {code} No\r\n\r\n"))
    with Webhook(f"http://{server.place}/") as hook:
        events = [make_event(number) for number in range(2)]
        for event in events:
            hook.on_event(event)
        wait_until(lambda: hook.undelivered == 0)
    assert [key_of(request) for request in server.requests] == [event.id for event in events]
    assert hook.health.lost("cam") == 1
    assert f"it answers {code}; a message is lost" in reasons(hook)[0]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["2", "date"])
def test_a_receiver_that_asks_for_a_pause_gets_it(text: str, serve: Serve) -> None:
    times_s: list[float] = []

    def answer(connection: socket.socket) -> None:
        times_s.append(time.monotonic())
        # a date has whole seconds: at least two are left of three
        asked = text if text == "2" else formatdate(time.time() + 3, usegmt=True)
        busy = f"HTTP/1.1 429 No\r\nRetry-After: {asked}\r\n\r\n"
        connection.sendall(busy.encode() if len(times_s) == 1 else b"HTTP/1.1 200 OK\r\n\r\n")

    assert told_of(f"http://{serve(answer).place}/", [make_event(0)]) == []
    assert times_s[1] - times_s[0] >= 1.9


@pytest.mark.parametrize(
    "text", ["-5", "1e9", "soon", "", "٣", "9" * 50, "Fri, 99 Foo 2026 00:00:00 GMT", "Wed"]
)
def test_a_pause_that_is_none_is_left_out(text: str, serve: Serve) -> None:
    server = serve(lambda c: c.sendall(f"HTTP/1.1 503 No\r\nRetry-After: {text}\r\n\r\n".encode()))
    asked = post(f"http://{server.place}/", b"{}", {}).retry_after_s
    assert asked is None or asked > 1e30  # which no message waits for, see the next test


@pytest.mark.slow
def test_a_pause_without_end_is_bounded(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_ASKED_MAX_S", 0.1)
    busy = "HTTP/1.1 429 No\r\nRetry-After: 999999999\r\n\r\n"
    server = serve(answers(busy, busy))
    assert told_of(f"http://{server.place}/", [make_event(0)]) == []
    assert len(server.requests) == 3


@pytest.mark.slow
def test_after_its_time_a_message_is_given_up_and_the_next_is_tried(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "GIVE_UP_S", 0.4)
    monkeypatch.setattr(webhook, "_FIRST_S", 0.3)
    server = serve(answers("HTTP/1.1 500 No\r\n\r\n", "HTTP/1.1 500 No\r\n\r\n"))
    with Webhook(f"http://{server.place}/") as hook:
        events = [make_event(number) for number in range(2)]
        for event in events:
            hook.on_event(event)
        wait_until(lambda: hook.undelivered == 0)
    keys = [key_of(request) for request in server.requests]
    assert keys == [events[0].id] * 2 + [events[1].id]  # tried at 0 and 0.3 s
    assert hook.health.lost_total == 1
    assert [state.state for state in hook.health.changes()] == ["working", "failing", "working"]


def test_what_does_not_fit_is_counted(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "BUFFER", 3)
    over = threading.Event()
    server = serve(
        lambda connection: over.wait(BOUND_S) and says("HTTP/1.1 200 OK\r\n\r\n")(connection)
    )
    with Webhook(f"http://{server.place}/") as hook:
        events = [make_event(number) for number in range(5)]
        for event in events:
            hook.on_event(event)
        assert hook.health.lost("cam") == 2
        over.set()
        wait_until(lambda: hook.undelivered == 0)
    assert [key_of(request) for request in server.requests] == [event.id for event in events[:3]]
    assert "3 messages are waiting" in reasons(hook)[0]


def test_the_end_of_a_run_does_not_wait_for_a_receiver_that_hangs(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "END_S", 0.2)
    over = threading.Event()
    server = serve(lambda connection: over.wait(BOUND_S) and None)
    with Webhook(f"http://{server.place}/") as hook:
        for number in range(3):
            hook.on_event(make_event(number))
    assert not over.is_set()  # the receiver has not answered yet
    assert hook.health.lost("cam") == 3
    over.set()


def test_what_waits_at_the_end_of_a_run_is_delivered(serve: Serve) -> None:
    """Each is tried once more, whatever pause the receiver asked for."""
    server = serve(answers("HTTP/1.1 503 No\r\nRetry-After: 100\r\n\r\n"))
    with Webhook(f"http://{server.place}/") as hook:
        for number in range(3):
            hook.on_event(make_event(number))
        wait_until(lambda: hook._resume_s > 0)  # it pauses
    assert len(server.requests) == 4
    assert hook.health.lost_total == 0
