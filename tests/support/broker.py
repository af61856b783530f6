"""A real MQTT broker, and somebody who listens to it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as mqtt

from tests.support.waiting import BOUND_S, wait_until

_TOPICS = [("yard/#", 2), ("homeassistant/#", 2)]
MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")


class Broker:
    """mosquitto on a free port, keeping what it knows over a restart."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self._file = folder / "mosquitto.conf"
        self._file.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
            f"persistence_location {folder}/\nuser root\nmax_queued_messages 0\n"
        )
        self.start()

    def start(self) -> None:
        assert MOSQUITTO is not None
        self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._file)], stderr=subprocess.PIPE)
        wait_until(self._answers)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=BOUND_S).close()
        except OSError:
            assert self._process.poll() is None, "mosquitto does not start"
            return False
        return True

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(BOUND_S)


class Listener:
    """Somebody who wants all messages and keeps a session with the broker."""

    def __init__(self, port: int, name: str = "listener") -> None:
        """name: of its session with the broker."""
        self.messages: list[tuple[str, str]] = []
        self.pictures: list[tuple[str, bytes]] = []
        self.retained: set[str] = set()
        subscribed = threading.Event()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, clean_session=False)
        self.client.on_message = self._take
        self.client.on_connect = lambda *a: self.client.subscribe(_TOPICS)
        self.client.on_subscribe = lambda *a: subscribed.set()
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert subscribed.wait(BOUND_S)

    def _take(self, client: Any, data: Any, message: Any) -> None:
        if message.retain:
            self.retained.add(message.topic)
        if message.topic.endswith("/picture"):
            self.pictures.append((message.topic, message.payload))
        else:
            self.messages.append((message.topic, message.payload.decode()))

    def of(self, topic: str) -> list[str]:
        return [text for name, text in self.messages if name == f"yard/{topic}"]

    def wait_for(self, topic: str, count: int) -> list[str]:
        wait_until(lambda: len(self.of(topic)) >= count)
        return self.of(topic)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def running_broker(folder: Path) -> Iterator[Broker]:
    """Skips the test where there is no mosquitto."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is neither on the PATH nor in /usr/sbin")
    broker = Broker(folder)
    try:
        yield broker
    finally:
        broker.stop()
