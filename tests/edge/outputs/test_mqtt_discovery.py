"""What Home Assistant learns over MQTT: a device for each camera, checked against its own schema
where that is installed, and what its entities read from a real broker."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest

from edge.decision.events import Event
from edge.errors import OutputError
from edge.outputs.base import SourceInfo
from edge.outputs.mqtt import MQTTOutput, parse_broker
from edge.outputs.mqtt_discovery import Discovery, parse_discovery
from edge.sources.reconnect import SourceState
from tests.support.broker import Broker, Listener, running_broker
from tests.support.command import assert_refused, twostream

CLASSES = ("Diving", "Say \"}}\" {{ 'twice' }}", "Swing")
DISCOVERY = Discovery("homeassistant", "ucf101-mini", CLASSES, frozenset({"Swing"}))
CAMERA = SourceInfo("the yard", "the-yard", live=True)
JPEG = b"\xff\xd8 a picture \xff\xd9"
# a Python with the package `homeassistant`, which pins what would not go with ours
HOME_ASSISTANT = os.environ.get("HOME_ASSISTANT_PYTHON", "")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path) as running:
        yield running


def start(index: int = 0) -> Event:
    return Event("the yard", "start", CLASSES[index], 1.0, 1.5, 0.9)


def end(event: Event) -> Event:
    return Event(event.source, "end", event.label, 1.0, 2.5, 0.95)


def render(entity: dict[str, Any], state: str) -> str:
    """What Home Assistant makes of a state."""
    template = jinja2.Environment(autoescape=False).from_string(entity["value_template"])
    return template.render(value_json=json.loads(state))


def test_each_camera_is_a_device_with_its_entities() -> None:
    messages = DISCOVERY.messages("home/cams", CAMERA)
    kinds = [topic.split("/")[1] for topic in messages]
    assert sorted(kinds) == ["binary_sensor", "binary_sensor", "image", "sensor"]  # Swing: ignored
    for topic, message in messages.items():
        assert re.fullmatch(r"homeassistant/\w+/[\w-]+/[\w-]+/config", topic)
        assert message["device"]["name"] == "the yard"
        assert [each["topic"] for each in message["availability"]] == [
            "home/cams/status",
            "home/cams/camera/the-yard/available",
        ]
    assert len({message["unique_id"] for message in messages.values()}) == 4
    other = DISCOVERY.messages("home/cams", SourceInfo("gate", "gate", live=True))
    ids = [
        json.dumps(next(iter(each.values()))["device"]["identifiers"]) for each in (messages, other)
    ]
    assert ids[0] != ids[1]
    assert messages == DISCOVERY.messages("home/cams", CAMERA)  # a restart makes no second device


def test_home_assistant_reads_what_goes_on(broker: Broker) -> None:
    address = parse_broker(f"mqtt://127.0.0.1:{broker.port}/yard")
    listener = Listener(broker.port)
    with MQTTOutput(address, DISCOVERY, lambda event: JPEG) as sink:
        listener.wait_for("status", 1)  # what changes before that is not sent
        sink.begin(CAMERA)
        sink.on_source_state(SourceState("the yard", "running"))
        event = start(1)
        sink.on_event(event)
        sink.on_event(end(event))
        states = listener.wait_for("camera/the-yard/action", 3)
        listener.wait_for("camera/the-yard/available", 2)
        listener.wait_for("event", 2)
        late = Listener(broker.port, "late")  # Home Assistant starts later
        late.wait_for("camera/the-yard/action", 1)
    before, during, after = states[-3:]
    entities = [json.loads(text) for topic, text in listener.messages if topic.endswith("/config")]
    sensor = next(e for e in entities if "json_attributes_topic" in e)
    diving, say = [e for e in entities if e["name"] in CLASSES]
    assert [render(sensor, state) for state in states[-3:]] == ["none", CLASSES[1], "none"]
    assert [render(say, state) for state in states[-3:]] == ["OFF", "ON", "OFF"]
    assert render(diving, during) == "OFF"
    assert (json.loads(during)["id"], json.loads(before)["index"]) == (event.id, None)
    assert json.loads(after)["label"] == "none"
    assert listener.pictures == [("yard/camera/the-yard/picture", JPEG)]
    assert listener.of("camera/the-yard/available")[:2] == ["offline", "online"]
    topics = {entity["state_topic"] for entity in entities if "state_topic" in entity}
    topics |= {entity["image_topic"] for entity in entities if "image_topic" in entity}
    topics |= {each["topic"] for entity in entities for each in entity["availability"]}
    assert topics <= late.retained
    assert sum(topic.endswith("/config") for topic in late.retained) == 4
    listener.close()
    late.close()


def test_without_discovery_no_picture_is_sent(broker: Broker) -> None:
    listener = Listener(broker.port)
    with MQTTOutput(
        parse_broker(f"mqtt://127.0.0.1:{broker.port}/yard"), None, lambda event: JPEG
    ) as sink:
        listener.wait_for("status", 1)
        sink.begin(CAMERA)
        sink.on_event(start())
        listener.wait_for("event", 1)
        listener.wait_for("camera/the-yard/action", 2)
    assert listener.pictures == []
    assert not any(topic.startswith("homeassistant/") for topic, _ in listener.messages)
    listener.close()


_VALIDATE = """
import json, sys
from homeassistant.components.mqtt import binary_sensor, image, sensor
schemas = {
    "binary_sensor": binary_sensor.DISCOVERY_SCHEMA,
    "image": image.DISCOVERY_SCHEMA,
    "sensor": sensor.DISCOVERY_SCHEMA,
}
for topic, message in json.load(sys.stdin).items():
    schemas[topic.split("/")[1]](message)
print("valid")
"""


@pytest.mark.skipif(not HOME_ASSISTANT, reason="HOME_ASSISTANT_PYTHON names no Python")
def test_home_assistant_s_own_schema_takes_the_messages() -> None:
    messages = DISCOVERY.messages("home/cams", CAMERA)
    assert _validate(messages).returncode == 0
    topic, message = next((t, m) for t, m in messages.items() if "/image/" in t)
    del message["image_topic"]  # the schemas do look
    assert _validate({topic: message}).returncode != 0


def _validate(messages: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HOME_ASSISTANT, "-c", _VALIDATE],
        input=json.dumps(messages),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("prefix", ["", "a b", "home/#", "/home", "home/", "+"])
def test_what_is_no_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(OutputError, match="--mqtt-discovery"):
        parse_discovery(prefix)
    assert parse_discovery("ha/discovery") == "ha/discovery"


def test_options_that_need_others(light_bundle: Path) -> None:
    source = ("run", light_bundle, "test://?live=1")
    done = twostream(*source, "--mqtt-discovery", "homeassistant")
    assert_refused(done, "--mqtt-discovery needs --mqtt")
    assert_refused(twostream(*source, "--webhook-pictures"), "--webhook-pictures needs --webhook")
