"""Publishes actions and camera states to an MQTT broker.

    PREFIX/status        "online" or "offline", retained; the last will is "offline"
    PREFIX/camera/NAME   the camera's state as JSON, retained
    PREFIX/event         the start or end of an action as JSON, exactly once (QoS 2)

While the broker is unreachable, events wait in a bounded buffer; further ones are lost, counted and
logged. Each event has a unique `id`, so that receivers can detect duplicates.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
import uuid
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from edge.decision.events import Event
from edge.errors import OutputError
from edge.outputs.base import Output, SourceInfo
from edge.outputs.records import event_record, state_record
from edge.sources.reconnect import SourceState

logger = logging.getLogger(__name__)

BUFFER = 1000  # events that wait for the broker
_END_S, _GOODBYE_S = 0.5, 0.3  # at the end, for sending waiting events and the "offline" status
_PORTS = {"mqtt": 1883, "mqtts": 8883}
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


class MQTTOutput(Output):
    """with MQTTOutput(parse_broker("mqtt://host/camera1")) as sink: sink.on_event(event)"""

    def __init__(self, broker: BrokerAddress) -> None:
        try:
            from paho.mqtt import client as mqtt
        except ImportError:
            raise OutputError(
                '--mqtt needs paho-mqtt; run: pip install "twostream-edge[mqtt]"'
            ) from None
        self._mqtt, self._broker = mqtt, broker
        self._slugs: dict[str, str] = {}  # names of the sources in topics
        self._run, self._number = uuid.uuid4().hex[:12], 0
        self._lock = threading.RLock()
        self._waiting: deque[str] = deque()
        self._under_way: int | None = None  # paho's message id of the event in flight
        self._cameras: dict[str, str] = {}  # state by topic
        self._connected: bool | None = None
        self.lost = 0
        # the same client name in each run: the broker keeps the session and what it received
        name = hashlib.sha256(broker.prefix.encode()).hexdigest()[:12]
        self._client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, f"twostream-{name}", clean_session=False
        )
        if broker.user:
            self._client.username_pw_set(broker.user, broker.password or None)
        if broker.secure:
            self._client.tls_set()
        self._client.reconnect_delay_set(1, 30)
        self._client.will_set(self._topic("status"), "offline", qos=1, retain=True)
        self._client.on_publish = self._on_publish
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_connect_fail = lambda *_: self._note(False, "it does not answer")

    def __enter__(self) -> MQTTOutput:
        self._client.connect_async(self._broker.host, self._broker.port, keepalive=20)
        self._client.loop_start()
        return self

    def close(self) -> None:
        """Send waiting events for up to half a second, then publish "offline"."""
        deadline_s = time.monotonic() + _END_S
        while self._unsent() and self._client.is_connected() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        unsent = self._unsent()
        if self._client.is_connected():
            with suppress(RuntimeError):  # just disconnected: the last will is published instead
                self._state("status", "offline").wait_for_publish(_GOODBYE_S)
        self._client.disconnect()
        self._client.loop_stop()
        if unsent or self.lost:
            logger.warning("%s: %d events were not sent", self._broker.name, unsent + self.lost)

    def begin(self, source: SourceInfo) -> None:
        self._slugs[source.name] = source.slug

    def on_source_state(self, state: SourceState) -> None:
        topic = f"camera/{self._slugs[state.name]}"
        text = self._cameras[topic] = json.dumps(state_record(state))
        if self._client.is_connected():
            self._state(topic, text)

    def on_event(self, event: Event) -> None:
        self._number += 1
        record = event_record(event) | {
            "id": f"{self._run}-{self._number}",
            "clock": round(time.time(), 3),
        }
        with self._lock:
            if len(self._waiting) < BUFFER:
                self._waiting.append(json.dumps(record))
                self._send_next()
                return
        self.lost += 1
        if self.lost == 1:
            logger.warning(
                "%s: %d events are waiting; further events are lost", self._broker.name, BUFFER
            )

    def _send_next(self) -> None:
        """Give paho one event at a time. After a reconnect it sends all queued messages at once,
        and a broker that accepts fewer (mosquitto: 20) closes the connection each time.
        """
        with self._lock:
            if self._waiting and self._under_way is None and self._client.is_connected():
                info = self._client.publish(self._topic("event"), self._waiting[0], qos=2)
                self._under_way = info.mid

    def _on_publish(self, *arguments) -> None:  # type: ignore[no-untyped-def]
        with self._lock:
            if arguments[2] == self._under_way:
                self._under_way = None
                self._waiting.popleft()
            self._send_next()

    def _unsent(self) -> int:
        with self._lock:
            return len(self._waiting)

    def _state(self, topic: str, text: str):  # type: ignore[no-untyped-def]
        return self._client.publish(self._topic(topic), text, qos=1, retain=True)

    def _topic(self, name: str) -> str:
        return f"{self._broker.prefix}/{name}"

    def _on_connect(self, *arguments) -> None:  # type: ignore[no-untyped-def]
        reason = arguments[3]
        if reason.is_failure:
            self._note(False, str(reason).lower())
            return
        self._note(True, "")
        self._state("status", "online")
        for topic, text in list(self._cameras.items()):
            self._state(topic, text)
        self._send_next()

    def _on_disconnect(self, *arguments) -> None:  # type: ignore[no-untyped-def]
        if arguments[3].is_failure:
            self._note(False, str(arguments[3]).lower())

    def _note(self, connected: bool, reason: str) -> None:
        """Log a change of the connection once, however many attempts follow."""
        if connected == self._connected:
            return
        if not connected:
            logger.warning("%s: %s; events are kept until it is back", self._broker.name, reason)
        elif self._connected is False:
            logger.info("%s: connected again", self._broker.name)
        self._connected = connected
