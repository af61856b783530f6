"""Home Assistant's MQTT discovery: messages from which it makes a device for each camera.

See https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery. A device has a sensor (the
action that goes on), a binary sensor for each action, and an image (the last action's picture).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from edge.errors import OutputError
from edge.outputs.base import SourceInfo

_TOPIC = re.compile(r"[\w-]+(/[\w-]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Discovery:
    """prefix: of the discovery topics, `homeassistant` unless changed there. bundle: its name.
    classes: in order; ignored: those that are never reported."""

    prefix: str
    bundle: str
    classes: tuple[str, ...]
    ignored: frozenset[str] = frozenset()

    def messages(self, base: str, source: SourceInfo) -> dict[str, dict[str, Any]]:
        """The messages for a source, by topic; retained, they make the same device again and again.
        base: prefix of our own topics."""
        camera = f"{base}/camera/{source.slug}"
        node = f"twostream-{hashlib.sha256(camera.encode()).hexdigest()[:12]}"
        shared = {
            "device": {
                "identifiers": [node],
                "name": source.name,
                "manufacturer": "twostream",
                "model": self.bundle,
                "sw_version": metadata.version("twostream-edge"),
            },
            "availability": [{"topic": f"{base}/status"}, {"topic": f"{camera}/available"}],
            "availability_mode": "all",
        }
        state = {"state_topic": f"{camera}/action", "json_attributes_topic": f"{camera}/action"}
        entities: list[tuple[str, str, dict[str, Any]]] = [
            ("sensor", "action", state | _named("Action", "{{ value_json.label }}", "mdi:run")),
            (
                "image",
                "picture",
                {
                    "name": "Last action",
                    "image_topic": f"{camera}/picture",
                    "content_type": "image/jpeg",
                },
            ),
        ]
        for index, name in self._reported():
            # by number, since a name may hold what ends a text in a template
            template = f"{{{{ 'ON' if value_json.index == {index} else 'OFF' }}}}"
            entity = {"state_topic": state["state_topic"]} | _named(name, template, "mdi:run-fast")
            entities.append(("binary_sensor", f"action-{index}", entity))
        return {
            f"{self.prefix}/{kind}/{node}/{key}/config": entity
            | shared
            | {"unique_id": f"{node}-{key}"}
            for kind, key, entity in entities
        }

    def _reported(self) -> Iterable[tuple[int, str]]:
        return ((n, name) for n, name in enumerate(self.classes) if name not in self.ignored)


def _named(name: str, template: str, icon: str) -> dict[str, str]:
    return {"name": name, "value_template": template, "icon": icon}


def parse_discovery(prefix: str) -> str:
    """Raises OutputError if it cannot be the beginning of a topic."""
    if not _TOPIC.fullmatch(prefix):
        raise OutputError(
            f"--mqtt-discovery {prefix}: give the discovery prefix of Home Assistant, which is "
            "homeassistant unless it was changed there"
        )
    return prefix
