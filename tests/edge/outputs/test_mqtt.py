"""Actions told to others: a real MQTT broker that is restarted, a web address that fails."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from edge.decision.events import Event
from edge.errors import OutputError
from edge.outputs import webhook
from edge.outputs.base import SourceInfo
from edge.outputs.mqtt import MQTTOutput, parse_broker
from edge.outputs.webhook import Webhook
from edge.sources.reconnect import SourceState
from tests.support.broker import Broker, Listener, running_broker
from tests.support.bundles import thresholds_that_anything_reaches
from tests.support.command import Running, assert_refused, twostream
from tests.support.events import make_event
from tests.support.waiting import BOUND_S, wait_until


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path) as running:
        yield running


def send(sink: MQTTOutput, numbers: range) -> None:
    for number in numbers:
        sink.on_event(make_event(number))


def test_events_come_once_and_status_is_kept(broker: Broker) -> None:
    listener = Listener(broker.port)
    with MQTTOutput(parse_broker(f"mqtt://127.0.0.1:{broker.port}/yard")) as sink:
        sink.begin(SourceInfo("cam", "cam", live=True))
        sink.on_source_state(SourceState("cam", "lost", "no frame for 2 s", 1, 0.2))
        send(sink, range(20))
        events = [json.loads(text) for text in listener.wait_for("event", 20)]
        assert [row["started"] for row in events] == list(range(20))
        assert len({row["id"] for row in events}) == 20
        assert events[3]["label"] == "Diving"
        assert json.loads(listener.wait_for("camera/cam", 1)[0])["reason"] == "no frame for 2 s"
        assert listener.wait_for("status", 1) == ["online"]
    # said in time or by the broker, from the last will
    assert listener.wait_for("status", 2) == ["online", "offline"]
    listener.close()


@pytest.mark.slow
def test_an_event_never_waits_for_the_one_that_is_confirmed(broker: Broker) -> None:
    """Events and states that come while paho confirms others, whose locks it holds meanwhile."""
    listener = Listener(broker.port)
    with MQTTOutput(parse_broker(f"mqtt://127.0.0.1:{broker.port}/yard")) as sink:
        sink.begin(SourceInfo("cam", "cam", live=True))
        wait_until(lambda: sink._connection.is_open)

        def send_all() -> None:
            for number in range(500):
                wait_until(lambda: len(sink._waiting) < 10)
                send(sink, range(number, number + 1))

        sender = threading.Thread(target=send_all, daemon=True)
        sender.start()
        sender.join(BOUND_S)
        assert not sender.is_alive()
        listener.wait_for("event", 500)
    listener.close()


@pytest.mark.slow
def test_no_event_is_lost_or_doubled_over_a_restart_of_the_broker(broker: Broker) -> None:
    listener, address = Listener(broker.port), f"mqtt://127.0.0.1:{broker.port}/yard"
    with MQTTOutput(parse_broker(address)) as sink:
        send(sink, range(20))
        listener.wait_for("event", 5)  # some are there, some wait, one is under way
        broker.stop()
        wait_until(lambda: sink.health.failing)
        send(sink, range(20, 40))
        broker.start()
        send(sink, range(40, 60))
        listener.wait_for("event", 60)
    wait_until(lambda: listener.of("status")[-1] == "offline")  # the last word: no more comes
    events = [json.loads(text) for text in listener.of("event")]
    assert [row["started"] for row in events] == list(range(60))
    _, failing, working = sink.health.changes()
    assert "events are kept until it is back" in failing.reason
    assert (working.state, sink.health.lost_total) == ("working", 0)
    listener.close()


def test_a_run_that_dies_is_offline(broker: Broker) -> None:
    listener = Listener(broker.port)
    sink = MQTTOutput(parse_broker(f"mqtt://127.0.0.1:{broker.port}/yard")).__enter__()
    listener.wait_for("status", 1)
    sink._connection._client.socket().shutdown(
        socket.SHUT_RDWR
    )  # the network goes, no goodbye is said
    sink._connection._client.loop_stop()
    assert listener.wait_for("status", 2)[1] == "offline"
    listener.close()


@pytest.mark.slow
def test_without_a_broker_what_does_not_fit_is_counted() -> None:
    with MQTTOutput(parse_broker("mqtt://127.0.0.1:9/yard")) as sink:
        send(sink, range(1010))
        assert sink.health.lost("cam") == 10
    assert sink.health.lost("cam") == 1010
    failing = [state.reason for state in sink.health.changes() if state.state == "failing"]
    assert len(failing) == 1
    assert "1000 events are waiting" in failing[0] or "events are kept" in failing[0]


@pytest.mark.parametrize(
    "uri",
    ["", "host/topic", "mqtt://host", "mqtt://host/#", "mqtt://:1/t", "mqtt://h:x/t", "http://h/t"],
)
def test_what_is_no_broker_is_refused(uri: str, light_bundle: Path) -> None:
    with pytest.raises(OutputError, match="--mqtt"):
        parse_broker(uri)


def test_a_broker_s_password_is_not_shown() -> None:
    found = parse_broker("mqtts://bob:p%40ss@host/site/cam 1")
    assert (found.port, found.password, found.prefix) == (8883, "p@ss", "site/cam 1")
    assert "p@ss" not in found.name
    for uri in ("mqtt://bob:1/hunter2@host/t", "mqtt://bob:hunter2/x@host/t", "mqtt://[hunter2/t"):
        with pytest.raises(OutputError, match=r"^--mqtt: ") as caught:
            parse_broker(uri)
        assert "hunter2" not in str(caught.value)


def _parts(kind: str, data: bytes) -> tuple[dict[str, Any], list[tuple[str | None, str, Any]]]:
    """The JSON of a message, and its pictures as (name, type, bytes)."""
    if kind == "application/json":
        return json.loads(data), []
    form = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + data)
    event, *pictures = form.get_payload()
    assert event.get_param("name", header="content-disposition") == "event"
    assert event.get_content_type() == "application/json"
    return json.loads(event.get_payload(decode=True)), [
        (each.get_filename(), each.get_content_type(), each.get_payload(decode=True))
        for each in pictures
    ]


class Hook(ThreadingHTTPServer):
    """Answers what it is told to, 200 when there is nothing left of that."""

    def __init__(self, answers: list[int]) -> None:
        self.answers, self.bodies = answers, list[dict[str, Any]]()
        self.pictures: list[tuple[str | None, str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                body, pictures = _parts(self.headers["Content-Type"], data)
                code = outer.answers.pop(0) if outer.answers else 200
                if code == 200:
                    outer.bodies.append(body)
                    outer.pictures += pictures
                self.send_response(code)
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                """Quiet."""

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/hook?token=secret"

    def wait_for(self, count: int) -> None:
        wait_until(lambda: len(self.bodies) >= count)


@pytest.mark.slow
def test_a_picture_comes_with_an_action_that_starts() -> None:
    """Parsed by the standard library, as a form that a browser sends."""
    hook, picture = Hook([500]), bytes(range(256)) * 40
    event = make_event(0)
    with Webhook(hook.url, lambda event: picture) as sink:
        sink.on_event(event)
        sink.on_event(Event("cam", "end", "Diving", 0.0, 2.0, 0.9))
        hook.wait_for(2)
    first, second = hook.bodies
    assert (first["id"], first["event"], second["event"]) == (event.id, "start", "end")
    assert hook.pictures == [(f"{event.id}.jpg", "image/jpeg", picture)]
    hook.shutdown()


def test_pictures_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "BUFFER_BYTES", 6000)
    with Webhook("http://127.0.0.1:9/hook", lambda event: bytes(2000)) as sink:
        for number in range(5):
            sink.on_event(make_event(number))
        assert sink.health.lost("cam") == 3
        assert "2 messages are waiting" in sink.health.changes()[1].reason


@pytest.mark.slow
def test_a_delivery_that_fails_is_tried_again_in_order() -> None:
    hook = Hook([500, 503])
    with Webhook(hook.url) as sink:
        for number in range(3):
            sink.on_event(make_event(number))
        hook.wait_for(3)
    assert [body["started"] for body in hook.bodies] == [0, 1, 2]
    assert [state.state for state in sink.health.changes()] == ["working"]
    hook.shutdown()


@pytest.mark.slow
def test_what_is_refused_for_good_is_counted_and_no_token_shown() -> None:
    hook = Hook([404])
    with Webhook(hook.url) as sink:
        sink.on_event(make_event(0))
        sink.on_event(make_event(1))
        hook.wait_for(1)
    assert [body["started"] for body in hook.bodies] == [1]
    assert sink.health.lost("cam") == 1
    _, failing, working = sink.health.changes()
    assert "it answers 404; a message is lost" in failing.reason
    assert "secret" not in failing.reason
    assert working.state == "working"
    hook.shutdown()


@pytest.mark.slow
def test_a_source_that_fails_for_good_is_heard(broker: Broker, light_bundle: Path) -> None:
    hook, subscriber = Hook([]), Listener(broker.port)
    words = ["run", light_bundle, "away=rtsp://127.0.0.1:9/none", "here=test://?live=1"]
    words += ["--wait-for-cameras", "--retries", 1, "--webhook", hook.url]

    def told() -> list[tuple[str, str]]:
        rows = (row for row in hook.bodies if "source_state" in row)
        return [(row["source"], row["source_state"]) for row in rows]

    with Running(*words, "--mqtt", f"mqtt://127.0.0.1:{broker.port}/yard") as run:
        run.wait_until(lambda: ("away", "failed") in told())
        run.wait_until(lambda: ("here", "running") in told())
        run.wait_until(lambda: '"failed"' in "".join(subscriber.of("camera/away")[-1:]))
        run.stop(code=2)
    assert ("here", "failed") not in told()
    subscriber.close()
    hook.shutdown()


@pytest.mark.slow
def test_an_event_has_the_same_id_everywhere(
    broker: Broker, light_bundle: Path, tmp_path: Path
) -> None:
    hook, subscriber = Hook([]), Listener(broker.port)
    words = ["run", light_bundle, "yard=test://?live=1"]
    words += thresholds_that_anything_reaches(light_bundle)
    words += ["--json", tmp_path / "o.jsonl", "--webhook", hook.url, "--web", "0"]
    with Running(*words, "--mqtt", f"mqtt://127.0.0.1:{broker.port}/yard") as run:
        page = run.said(r"live page: (\S+)")[1]
        run.wait_until(lambda: subscriber.of("event"))
        run.wait_until(lambda: any("event" in body for body in hook.bodies))
        shown = json.loads(urllib.request.urlopen(f"{page}state.json", timeout=60).read())
        run.stop()
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    written = {row["id"]: row["event"] for row in lines if "event" in row}
    assert list(written) == sorted(written)
    posted = {row["id"]: row["event"] for row in hook.bodies if "event" in row}
    listener_rows = [json.loads(text) for text in subscriber.of("event")]
    published = {row["id"]: row["event"] for row in listener_rows}
    assert written == posted == published
    assert set(written.values()) == {"start", "end"}  # the end comes with that of the run
    assert {row["id"] for row in shown["events"] if "event" in row} <= set(written)
    states = {row["id"] for row in lines if "source_state" in row}
    assert states == {row["id"] for row in hook.bodies if "source_state" in row} != set()
    subscriber.close()
    hook.shutdown()


def test_an_address_that_is_none_is_refused(light_bundle: Path) -> None:
    done = twostream("run", light_bundle, "test://", "--webhook", "ftp://host/x")
    assert_refused(done, "--webhook: give an address that begins with http")
