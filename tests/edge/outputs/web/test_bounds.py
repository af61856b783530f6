"""What a connection may cost: slow, silent, greedy and broken clients, on a running server."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge.outputs.web.connections
import edge.outputs.web.routes
from edge.outputs.json_lines import JsonLines
from edge.outputs.web.answers import HEADERS
from edge.outputs.web.routes import VIEWERS_MAX
from tests.support.command import Running
from tests.support.live_page import Answer, Page, is_closed, page, read_all
from tests.support.waiting import BOUND_S, wait_until


@pytest.fixture
def local() -> Iterator[Page]:
    with page() as running:
        yield running


BAD_REQUESTS = [
    b"GET //[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET http://[/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET http://localhost:99999/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET http://xn--zz--/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET http://a..b/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /?" + b"a=1&" * 100 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /\xff\xfe?token=\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /?token=%ff%ed%a0%80 HTTP/1.1\r\nHost: localhost\r\nCookie: \x01;;=\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n",
]


@pytest.mark.parametrize("data", BAD_REQUESTS, ids=range(len(BAD_REQUESTS)))
def test_what_is_malformed_is_silent(
    local: Page, data: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with local.connect() as opened, contextlib.suppress(ConnectionError):
        opened.sendall(data)
        answer = b""  # its head: a connection may be kept alive after it
        while b"\r\n\r\n" not in answer and (more := opened.recv(4096)):
            answer += more
        assert not answer or answer.split()[1] in (b"400", b"404", b"405", b"200"), answer
        assert answer or len(data) > 10_000  # cut off while it was still sending
    assert local.ask("/healthz").status == 200
    assert local.count("fault") == 0
    assert capfd.readouterr().err == ""


def test_the_malformed_is_400_and_counted(local: Page) -> None:
    before = local.count("malformed")
    assert local.send(b"GET / HTTP/1.1\r\nno colon\r\n\r\n").split()[1] == b"400"
    assert local.count("malformed") == before + 1


@pytest.mark.parametrize("target", [b"http://xn--zz--/", b"http://localhost:99999/"])
def test_an_address_that_is_none_is_400_counted_and_has_the_policies(
    local: Page, target: bytes
) -> None:
    before = local.count("malformed")
    answer = Answer(local.send(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    assert answer.status == 400
    assert all(answer.headers[name.lower()] == value for name, value in HEADERS.items())
    assert local.count("malformed") == before + 1


def test_a_reset_connection_is_silent(local: Page, capfd: pytest.CaptureFixture[str]) -> None:
    for data in (b"", b"GET /", b"GET /state.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50):
        opened = local.connect(data)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        opened.close()
    assert local.ask("/healthz").status == 200
    assert local.count("fault") == 0
    assert capfd.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_can_be_sent(local: Page, method: str) -> None:
    answer = local.ask("/state.json", method=method)
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert (
        local.send(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\nxx"
        ).split()[1]
        == b"413"
    )


ELSEWHERE = "/../../etc/passwd /..%2f..%2fetc/passwd /page.html /state.json/.. //page.js /server.py"
ELSEWHERE += " /%2e%2e/setup.cfg /page.js%00 /./page.js http://127.0.0.1/state.json"


@pytest.mark.parametrize("path", ELSEWHERE.split())
def test_no_other_file_is_given(local: Page, path: str) -> None:
    assert local.ask(path).status in (400, 404)


def test_head_is_the_answer_without_its_body(local: Page) -> None:
    for path in ("/", "/state.json", "/live.mjpg", "/healthz"):
        answer = local.ask(path, method="HEAD")
        assert (answer.status, answer.body) == (200, b"")


def test_unknown_sources_are_404_and_hold_nothing(local: Page) -> None:
    for _ in range(3 * VIEWERS_MAX):
        assert local.ask("/live.mjpg?source=other").status == 404
        assert local.ask("/still.jpg?source=other").status == 404
    assert local.ask("/still.jpg?source=yard").body.startswith(b"\xff\xd8")
    watch(local).close()


def watch(local: Page) -> socket.socket:
    """A viewer that has got a picture."""
    opened = local.connect(b"GET /live.mjpg?source=yard HTTP/1.1\r\nHost: localhost\r\n\r\n")
    data = b""
    while b"image/jpeg" not in data:
        part = opened.recv(4096)
        assert part, data
        data += part
    return opened


def test_a_viewer_who_has_gone_makes_room_without_a_picture(local: Page) -> None:
    viewers = [watch(local) for _ in range(VIEWERS_MAX)]
    assert local.ask("/live.mjpg?source=yard").status == 503
    for viewer in viewers[:2]:
        viewer.close()
    viewers += [wait_for_room(local), wait_for_room(local)]
    for viewer in viewers:
        viewer.close()


def wait_for_room(local: Page) -> socket.socket:
    found = []

    def has_room() -> bool:
        with contextlib.suppress(AssertionError):
            found.append(watch(local))
        return bool(found)

    wait_until(has_room)
    return found[0]


def test_a_viewer_who_had_asked_for_more_makes_room_too(local: Page) -> None:
    ask = b"GET /live.mjpg?source=yard HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for viewer in [local.connect(ask * 200) for _ in range(VIEWERS_MAX)]:
        assert b"200 OK" in viewer.recv(4096)
        viewer.close()
    wait_for_room(local).close()


def test_a_stream_ends_with_its_source(local: Page) -> None:
    viewer = watch(local)
    local.state.end("yard", None)
    assert is_closed(viewer)


@pytest.mark.slow
def test_a_head_that_comes_byte_by_byte_is_cut_off(
    local: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge.outputs.web.connections, "HEAD_S", 2.0)
    opened = local.connect(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
    with contextlib.suppress(ConnectionError):
        for _ in range(int(BOUND_S / 0.05)):  # each byte in time for a bound from byte to byte
            opened.sendall(b"x")
            time.sleep(0.05)
        pytest.fail("it was not cut off")
    assert is_closed(local.connect())  # says nothing
    used = local.connect(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"200 OK" in used.recv(4096)
    assert is_closed(used)  # kept alive, then in no use
    assert local.count("slow") >= 2


@pytest.mark.slow
def test_who_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge.outputs.web.connections, "ANSWER_S", 1.0)
    monkeypatch.setattr(edge.outputs.web.routes, "_PICTURE_S", 1.0)
    with page(side_px=1500) as local:
        still = b"GET /still.jpg?source=yard HTTP/1.1\r\nHost: localhost\r\n\r\n"
        stalled = local.connect(still * 30)
        wait_until(lambda: local.count("slow") >= 1)
        stalled.close()
        viewer, before = watch(local), local.count("slow")

        def cut_off() -> bool:
            local.label()
            return local.count("slow") > before

        wait_until(cut_off)
        viewer.close()


@pytest.mark.slow
def test_a_newcomer_takes_the_place_of_the_idlest(local: Page) -> None:
    viewer = watch(local)
    silent = [local.connect() for _ in range(3 * edge.outputs.web.connections.CONNECTIONS_MAX)]
    assert local.ask("/healthz").status == 200
    assert is_closed(silent[0])
    assert local.count("evicted") >= 2 * edge.outputs.web.connections.CONNECTIONS_MAX
    viewer.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            assert viewer.recv(65536)  # still there
    for one in (*silent, viewer):
        one.close()


@pytest.mark.slow
def test_viewers_and_idle_peers_lock_nobody_out(local: Page) -> None:
    """The peer that has most has streams alone, and those stay."""
    viewers = [watch(local) for _ in range(VIEWERS_MAX)]
    most = 3 * edge.outputs.web.connections.CONNECTIONS_MAX
    idle = [local.connect(peer=f"127.1.0.{number + 1}") for number in range(most)]
    for round_ in range(3):
        assert local.ask("/healthz").status == 200
        ask = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        with local.connect(ask, f"127.9.9.{round_ + 1}") as newcomer:
            assert Answer(read_all(newcomer)).status == 200
        # they come again
        idle += [local.connect(peer=f"127.2.{round_}.{number + 1}") for number in range(most)]
    assert is_closed(idle[0])
    local.label()
    for viewer in viewers:
        assert viewer.recv(4096)
    for one in (*idle, *viewers):
        one.close()


@pytest.mark.slow
def test_one_connection_gets_so_many_answers_and_others_theirs(
    local: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge.outputs.web.connections, "_RATE", (1e-6, 3))
    monkeypatch.setattr(edge.outputs.web.connections, "ANSWER_S", 2.0)
    greedy = local.connect(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500)
    assert local.ask("/healthz").status == 200
    assert read_all(greedy).count(b"200 OK") == 3
    greedy.close()


@pytest.mark.slow
def test_all_together_get_so_many_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge.outputs.web.connections, "_RATE_IN_ALL", (1e-6, 10))
    monkeypatch.setattr(edge.outputs.web.connections, "ANSWER_S", 2.0)
    with page() as local:
        ask = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 4
        opened = [local.connect(ask, f"127.1.0.{number + 1}") for number in range(8)]
        assert sum(read_all(one).count(b"200 OK") for one in opened) == 10
        for one in opened:
            one.close()


@pytest.mark.slow
def test_viewers_who_do_not_read_give_their_places_back(
    local: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge.outputs.web.routes, "_PICTURE_S", 1.0)
    stalled = []
    for _ in range(VIEWERS_MAX):
        viewer = socket.socket()
        viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        viewer.connect(("127.0.0.1", local.port))
        viewer.sendall(b"GET /live.mjpg?source=yard HTTP/1.1\r\nHost: localhost\r\n\r\n")
        stalled.append(viewer)
    wait_until(lambda: local.ask("/live.mjpg?source=yard", method="GET").status == 503)

    def cut_off() -> bool:
        local.label()
        return local.count("slow") == VIEWERS_MAX

    wait_until(cut_off)
    watch(local).close()
    for viewer in stalled:
        viewer.close()


@pytest.fixture
def no_handles() -> Iterator[list[int]]:
    """None is left to this process but those given, when they are closed and taken out."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    taken = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    yield taken
    for descriptor in taken:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.slow
def test_accepting_pauses_while_handles_run_out(
    local: Page, request: pytest.FixtureRequest
) -> None:
    kept = local.connect(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"200 OK" in kept.recv(4096)
    newcomers = [socket.socket() for _ in range(8)]
    request.getfixturevalue("no_handles")
    for one in newcomers:
        one.connect(("127.0.0.1", local.port))
    newcomers[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    newcomers[0].settimeout(BOUND_S)
    assert b"200 OK" in newcomers[0].recv(4096)  # by the handle that the idle one gave back
    assert is_closed(kept)
    for one in newcomers[1:]:
        one.close()
    newcomers[0].sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    text = newcomers[0].recv(65536).decode()
    newcomers[0].close()
    found = re.search(r'reason="no_handles"} (\d+)', text)
    assert found is not None
    assert 1 <= int(found[1]) < 20


@pytest.mark.slow
def test_a_file_is_brought_to_the_disk_when_handles_are_back(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    no_handles: list[int],
) -> None:
    brought, sync = threading.Event(), os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda file: (sync(file), brought.set()))
    os.close(no_handles.pop())  # the one of the file itself
    with JsonLines(tmp_path / "labels.jsonl") as out:
        out.write({"label": "Swing"})
        assert not brought.wait(1.2)
        os.close(no_handles.pop())
        assert brought.wait(BOUND_S)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_run_goes_on_under_a_thousand_idle_connections(
    light_bundle: Path, tmp_path: Path
) -> None:
    words = ["run", light_bundle, "yard=test://?live=1&pattern=ball", "--web", "0"]
    words += ["--json", tmp_path / "labels.jsonl", "--segment", "0.05"]
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))  # noqa: E731
    with Running(*words, preexec=limit) as run:
        port = int(run.said(r"live page: http://127.0.0.1:(\d+)/")[1])
        web = Page(f"http://127.0.0.1:{port}/", None)  # type: ignore[arg-type]
        attackers = attack(port, 1050)
        run.wait_until(lambda: web.ask("/healthz").status == 200)

        def labelled() -> int:
            (source,) = json.loads(web.ask("/state.json").body)["sources"]
            return source["counts"].get("labelled", 0)

        before, files = labelled(), len(list(tmp_path.glob("*.jsonl")))
        for _ in range(5):  # they come again as they are cut off
            attackers += attack(port, 200)
            run.wait_until(lambda: web.ask("/healthz").status == 200)
        run.wait_until(lambda: labelled() > before + 30)
        run.wait_until(lambda: len(list(tmp_path.glob("*.jsonl"))) > files + 1)
        for one in attackers:
            one.close()
        run.stop()


def attack(port: int, count: int) -> list[socket.socket]:
    """Connections that have sent a part of a head."""
    found = []
    for _ in range(count):
        opened = socket.create_connection(("127.0.0.1", port), timeout=BOUND_S)
        with contextlib.suppress(ConnectionError):
            opened.sendall(b"G")
        found.append(opened)
    return found
