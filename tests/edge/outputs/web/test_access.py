"""Who may look at the live page: each attack, on a running server."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator

import pytest

from edge.errors import OutputError
from edge.outputs.listen_address import parse_listen
from edge.outputs.web.server import WebServer
from tests.support.live_page import TOKEN, Page, page
from tests.support.waiting import wait_until

PATHS = ["/", "/page.css", "/page.js", "/event.js", "/state.json", "/metrics", "/still.jpg"]
PATHS += ["/view.jpg", "/view.jpg?source=x", "/live.mjpg"]
PATHS += ["/healthz", "/nothing", "/still.jpg?source=x", "/live.mjpg?source=x"]


@pytest.fixture
def guarded() -> Iterator[Page]:
    with page(TOKEN) as running:
        yield running


@pytest.fixture(scope="module")
def local() -> Iterator[Page]:
    with page() as running:
        yield running


def with_token(path: str, token: str) -> str:
    return f"{path}{'&' if '?' in path else '?'}token={token}" if token else path


@pytest.mark.parametrize("token", ["", "wrong", TOKEN])
def test_no_answer_has_the_token_in_it(guarded: Page, token: str) -> None:
    answers = []
    for path, method in itertools.product(PATHS, ["GET", "HEAD", "POST"]):
        if path.startswith("/live.mjpg") and method == "GET":
            continue  # has no end; its head is below
        answers.append(guarded.ask(with_token(path, token), method=method))
    with guarded.connect(f"GET {with_token('/live.mjpg', token)} HTTP/1.1\r\n\r\n".encode()) as one:
        answers.append(one.recv(65536))
    answers.append(guarded.ask(with_token("/ /", token)))
    answers.append(guarded.send(f"NO HTTP {token}\r\n\r\n".encode()))
    answers.append(guarded.ask("/", f"Authorization: Bearer {token}"))
    answers.append(guarded.ask("/", f"Cookie: twostream-{guarded.port}={token}"))
    for answer in answers:
        raw = answer if isinstance(answer, bytes) else answer.raw
        assert raw.startswith(b"HTTP/1.")
        assert TOKEN.encode() not in raw


def test_the_cookie_is_random_and_given_for_the_right_token_alone(guarded: Page) -> None:
    assert "set-cookie" not in guarded.ask(f"/healthz?token={TOKEN}").headers
    given = guarded.ask(f"/?token={TOKEN}").headers["set-cookie"]
    assert "HttpOnly" in given
    assert "SameSite=Strict" in given
    cookie = given.partition(";")[0]
    assert guarded.ask("/state.json", f"Cookie: other=1; {cookie}").status == 200
    name = cookie.partition("=")[0]
    for wrong in (f"{cookie}x", f"{name}={TOKEN}", f"{name}=", f"x{cookie}", "\x01;;="):
        assert guarded.ask("/state.json", f"Cookie: {wrong}").status in (400, 401)
    for path in ("/", "/healthz", "/nothing"):
        assert "set-cookie" not in guarded.ask(f"{path}?token=wrong").headers
    with page(TOKEN) as other:
        assert other.ask(f"/?token={TOKEN}").headers["set-cookie"] != given


def test_the_header_is_bearer_alone(guarded: Page) -> None:
    assert guarded.ask("/state.json", f"Authorization: Bearer {TOKEN}").status == 200
    for value in (TOKEN, f"Basic {TOKEN}", f"Bearer{TOKEN}", "Bearer", "Bearer "):
        assert guarded.ask("/state.json", f"Authorization: {value}").status == 401


def test_guesses_are_slowed_for_who_guesses_alone(guarded: Page) -> None:
    cookie = guarded.ask(f"/?token={TOKEN}").headers["set-cookie"].partition(";")[0]
    statuses = [guarded.ask(f"/?token=guess{number}").status for number in range(12)]
    assert statuses[0] == 401
    slowed = guarded.ask(f"/?token={TOKEN}")
    assert slowed.status == 429  # not even looked at
    assert int(slowed.headers["retry-after"]) >= 1
    assert guarded.ask("/state.json", f"Cookie: {cookie}").status == 200
    assert guarded.ask("/healthz").status == 200
    wait_until(lambda: guarded.ask(f"/?token={TOKEN}").status == 200)
    assert guarded.ask(f"/?token={TOKEN}").status == 200


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.9.9.9:80", "[::1]:5"]
)
def test_without_a_token_this_machine_is_answered(local: Page, host: str) -> None:
    assert local.ask("/state.json", host=host).status == 200


FOREIGN = "evil.example evil.example:80 localhost.evil.example 127.0.0.1.nip.io 10.0.0.1 0.0.0.0"
FOREIGN += " evil@localhost localhost:evil localhost: @localhost localhost/evil localhost?evil"
FOREIGN += " localhost:80:80 [::1 ::1 [127.0.0.1]evil [::1]evil localhost#evil 127.1 [::1%25lo]"
FOREIGN += " [::2] [ a@127.0.0.1.evil 2130706433"


@pytest.mark.parametrize("host", FOREIGN.split())
def test_a_name_that_was_bound_to_this_machine_is_not(local: Page, host: str) -> None:
    for path in ("/", "/state.json", "/healthz", "/live.mjpg", "/nothing"):
        assert local.ask(path, host=host).status == 421


def test_a_request_without_one_host_is_refused(local: Page) -> None:
    assert local.send(b"GET / HTTP/1.0\r\n\r\n").split()[1] == b"421"
    assert local.ask("/", "Host: evil.example").status == 400


@pytest.mark.parametrize(
    "fields",
    [
        ["Sec-Fetch-Site: cross-site"],
        ["Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"],
        ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"],
        ["Origin: http://evil.example"],
        ["Origin: null"],
    ],
)
def test_pages_of_other_sites_are_refused(local: Page, fields: list[str]) -> None:
    for path in PATHS:
        assert local.ask(path, *fields).status == 403


def test_links_and_the_page_itself_are_answered(local: Page) -> None:
    link = ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"]
    assert local.ask("/", *link).status == 200
    assert local.ask("/state.json", *link).status == 403
    own = ["Sec-Fetch-Site: same-origin", f"Origin: http://127.0.0.1:{local.port}"]
    assert local.ask("/state.json", *own).status == 200


def test_every_answer_has_the_policies(guarded: Page, local: Page) -> None:
    answers = [guarded.ask(path) for path in PATHS]
    answers += [local.ask(path) for path in PATHS if path != "/live.mjpg"]
    answers += [
        local.ask("/", method="POST"),
        local.ask("/ /"),
        local.ask("/", host="evil.example"),
    ]
    answers += [local.ask("/live.mjpg", method="HEAD")]
    assert {answer.status for answer in answers} >= {200, 400, 401, 404, 405, 421}
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["server"] == "twostream"


@pytest.mark.parametrize("option", ["--web", "--rtsp"])
def test_a_short_token_is_refused_where_others_can_guess(option: str) -> None:
    with pytest.raises(OutputError, match=f"{option} 0.0.0.0:80.*6 characters") as told:
        parse_listen(option, "0.0.0.0:80", "sesame")
    assert "sesame" not in str(told.value)
    assert parse_listen(option, "0.0.0.0:80", "x" * 16).token
    assert parse_listen(option, "127.0.0.1:80", "sesame").token


def test_a_missing_server_is_named_with_its_remedy(
    local: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("edge.outputs.web.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("edge.outputs.web.connections")
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(OutputError, match=r"run: pip install .*\[web\]'$") as told:
        WebServer(parse_listen("--web", "0", ""), local.state)
    assert "--web needs aiohttp" in str(told.value)
