"""Publishes actions and camera states to an MQTT broker.

    PREFIX/status        "online" or "offline", retained; the last will is "offline"
    PREFIX/camera/NAME   the camera's state as JSON, retained
    PREFIX/output/NAME   whether an output works (video, json, webhook, mqtt), as JSON, retained
    PREFIX/event         the start or end of an action as JSON, exactly once (QoS 2)
    PREFIX/camera/NAME/action     the action that goes on, or "none", as JSON, retained
    PREFIX/camera/NAME/available  "online" while the camera is read, else "offline", retained
    PREFIX/camera/NAME/picture    the frame at which the last action started, JPEG, retained; with
                                  discovery alone

While the broker is unreachable, events wait in a bounded buffer; further ones are lost and counted.
Each event has a unique `id`, so that receivers can detect duplicates.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from edge.decision.events import Event
from edge.errors import OutputError
from edge.installation import install_line
from edge.outputs.base import Output, SourceInfo
from edge.outputs.health import OutputHealth, OutputState
from edge.outputs.mqtt_discovery import Discovery
from edge.outputs.records import event_record, output_record, state_record
from edge.sources.reconnect import SourceState

BUFFER = 1000  # events that wait for the broker
_END_S, _GOODBYE_S = 0.5, 0.3  # at the end, for sending waiting events and the "offline" status
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_NO_ACTION = {"label": "none", "index": None}
_SCHEME_HINT = "give mqtt://[USER:PASSWORD@]HOST[:PORT]/TOPIC, or mqtts://"


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """name: shown in messages, without a password. prefix: of the topics."""

    name: str
    host: str
    port: int
    secure: bool
    user: str
    password: str
    prefix: str


def parse_broker(uri: str) -> BrokerAddress:
    """Parse mqtt://[USER:PASSWORD@]HOST[:PORT]/TOPIC. Raises OutputError if it is malformed."""
    try:
        parts = urlsplit(uri)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        raise OutputError(f"--mqtt: not a broker's address; {_SCHEME_HINT}") from None
    prefix = parts.path.strip("/")
    if parts.scheme not in _PORTS or not parts.hostname or not port:
        raise OutputError(f"--mqtt: not a broker's address; {_SCHEME_HINT}")
    if not prefix or set(prefix) & set("#+\0"):
        raise OutputError(f"--mqtt: needs a topic without wildcards; {_SCHEME_HINT}")
    # most likely the password has such a character in it, and topics are shown in messages
    if "@" in parts.path + parts.query + parts.fragment:
        raise OutputError("--mqtt: in the password write / as %2F, ? as %3F, # as %23 and @ as %40")
    return BrokerAddress(
        f"{parts.scheme}://{parts.hostname}:{port}/{prefix}",
        parts.hostname,
        port,
        parts.scheme == "mqtts",
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        prefix,
    )


class _Connection:
    """The connection to the broker, with what is retained there: "online" and the states."""

    def __init__(
        self,
        broker: BrokerAddress,
        health: OutputHealth,
        on_connected: Callable[[], None],
        on_published: Callable[[int], None],
    ) -> None:
        """on_connected, on_published: called from paho's thread; the latter with a message's id,
        while paho holds a lock that `send_event` and `retain` wait for."""
        try:
            from paho.mqtt import client as mqtt
        except ImportError:
            raise OutputError(f"--mqtt needs paho-mqtt; run: {install_line('mqtt')}") from None
        self._broker, self._health, self._on_connected = broker, health, on_connected
        self._retained: dict[str, str | bytes] = {}  # by topic
        # the same client name in each run: the broker keeps the session and what it received
        name = hashlib.sha256(broker.prefix.encode()).hexdigest()[:12]
        client = self._client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, f"twostream-{name}", clean_session=False
        )
        if broker.user:
            client.username_pw_set(broker.user, broker.password or None)
        if broker.secure:
            client.tls_set()
        client.reconnect_delay_set(1, 30)
        client.will_set(self._topic("status"), "offline", qos=1, retain=True)
        client.on_publish = lambda *arguments: on_published(arguments[2])
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_connect_fail = lambda *_: self._fail("it does not answer")

    def open(self) -> None:
        """Connect in the background, again and again."""
        self._client.connect_async(self._broker.host, self._broker.port, keepalive=20)
        self._client.loop_start()

    def close(self) -> None:
        """Publish "offline" and disconnect."""
        if self._client.is_connected():
            with suppress(RuntimeError):  # just disconnected: the last will is published instead
                self._publish(self._topic("status"), "offline").wait_for_publish(_GOODBYE_S)
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def is_open(self) -> bool:
        return bool(self._client.is_connected())

    def send_event(self, text: str) -> int:
        """Publish exactly once; returns the message's id."""
        return int(self._client.publish(self._topic("event"), text, qos=2).mid)

    def set_state(self, topic: str, text: str | bytes) -> None:
        """Retain a text under the prefix."""
        self.retain(self._topic(topic), text)

    def retain(self, topic: str, text: str | bytes) -> None:
        """Publish now and after each reconnect; the broker keeps it. topic: the whole one."""
        self._retained[topic] = text
        if self.is_open:
            self._publish(topic, text)

    def _publish(self, topic: str, text: str | bytes):  # type: ignore[no-untyped-def]
        return self._client.publish(topic, text, qos=1, retain=True)

    def _topic(self, name: str) -> str:
        return f"{self._broker.prefix}/{name}"

    def _connected(self, *arguments) -> None:  # type: ignore[no-untyped-def]
        reason = arguments[3]
        if reason.is_failure:
            self._fail(str(reason).lower())
            return
        self._health.recover()
        self._publish(self._topic("status"), "online")
        for topic, text in list(self._retained.items()):
            self._publish(topic, text)
        self._on_connected()

    def _disconnected(self, *arguments) -> None:  # type: ignore[no-untyped-def]
        if arguments[3].is_failure:
            self._fail(str(arguments[3]).lower())

    def _fail(self, reason: str) -> None:
        self._health.fail(f"{self._broker.name}: {reason}; events are kept until it is back")


class MQTTOutput(Output):
    """with MQTTOutput(parse_broker("mqtt://host/camera1")) as sink: sink.on_event(event)"""

    health: OutputHealth

    def __init__(
        self,
        broker: BrokerAddress,
        discovery: Discovery | None = None,
        picture: Callable[[Event], bytes] | None = None,
    ) -> None:
        """discovery: announce the cameras to Home Assistant, and send it pictures of actions.
        picture: gives the JPEG of an action that has just started."""
        self.health = OutputHealth("mqtt", "events not sent")
        self._prefix, self._discovery, self._picture = broker.prefix, discovery, picture
        self._slugs: dict[str, str] = {}  # names of the sources in topics
        self._waiting: deque[tuple[str, str]] = deque()  # source and text of each event
        self._published: deque[int] = deque()  # ids of messages that the broker has
        self._changed, self._closing = threading.Event(), False
        self._connection = _Connection(broker, self.health, self._changed.set, self._on_published)
        self._sender = threading.Thread(target=self._send_events, name="mqtt-events", daemon=True)

    def __enter__(self) -> MQTTOutput:
        self._connection.open()
        self._sender.start()
        return self

    def close(self) -> None:
        """Send waiting events for up to half a second, then publish "offline"."""
        deadline_s = time.monotonic() + _END_S
        while self._waiting and self._connection.is_open and time.monotonic() < deadline_s:
            time.sleep(0.01)
        self._closing = True
        self._changed.set()
        self._sender.join()
        self._connection.close()
        for source, _ in self._waiting:
            self.health.lose(source)
        self._waiting.clear()

    def begin(self, source: SourceInfo) -> None:
        self._slugs[source.name] = source.slug
        if self._discovery is not None:
            for topic, message in self._discovery.messages(self._prefix, source).items():
                self._connection.retain(topic, json.dumps(message))
        self._set(source.name, "available", "offline" if source.live else "online")
        self._set(source.name, "action", json.dumps(_NO_ACTION))

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
        self._set(source, "available", "offline")

    def on_source_state(self, state: SourceState) -> None:
        topic = f"camera/{self._slugs[state.name]}"
        self._connection.set_state(topic, json.dumps(state_record(state)))
        self._set(state.name, "available", "online" if state.state == "running" else "offline")

    def on_output_state(self, state: OutputState) -> None:
        self._connection.set_state(f"output/{state.name}", json.dumps(output_record(state)))

    def on_event(self, event: Event) -> None:
        record = event_record(event) | {"clock": round(time.time(), 3)}
        if event.source in self._slugs:
            self._show(event, record)
        if len(self._waiting) < BUFFER:
            self._waiting.append((event.source, json.dumps(record)))
            self._changed.set()
            return
        self.health.lose(event.source)
        self.health.fail(f"{BUFFER} events are waiting; further events are lost")

    def _show(self, event: Event, record: dict[str, Any]) -> None:
        """Retain what goes on. The picture comes first, so that it is there when the action is."""
        if event.kind == "end":
            self._set(event.source, "action", json.dumps(_NO_ACTION | {"id": event.id}))
            return
        discovery, picture = self._discovery, self._picture
        index = None
        if discovery is not None:
            index = discovery.classes.index(event.label)
            if picture is not None:
                self._set(event.source, "picture", picture(event))
        self._set(event.source, "action", json.dumps(record | {"index": index}))

    def _set(self, source: str, topic: str, text: str | bytes) -> None:
        self._connection.set_state(f"camera/{self._slugs[source]}/{topic}", text)

    def _send_events(self) -> None:
        """Give paho one event at a time. After a reconnect it sends all queued messages at once,
        and a broker that accepts fewer (mosquitto: 20) closes the connection each time.

        In a thread of its own: neither the run's thread nor paho's may wait for the other.
        """
        under_way: int | None = None  # paho's id of the event in flight
        while True:
            self._changed.wait()
            self._changed.clear()
            while self._published:
                if self._published.popleft() == under_way:
                    under_way = None
                    self._waiting.popleft()
            if self._closing:
                return  # what still waits is counted as lost
            if under_way is None and self._waiting and self._connection.is_open:
                under_way = self._connection.send_event(self._waiting[0][1])

    def _on_published(self, number: int) -> None:
        self._published.append(number)
        self._changed.set()
