"""A source whose actions are recorded, without networks: its labels are made by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.bundle.manifest import Bundle
from edge.decision.events import Event
from edge.decision.label import Label
from edge.outputs.annotator import Annotator
from edge.outputs.base import Output, SourceInfo
from edge.outputs.events.event_recorder import EventRecorder, Margins
from edge.outputs.events.event_store import EventStore
from edge.video.frames import Frame
from tests.support.frames import street
from tests.support.labels import make_label
from tests.support.waiting import wait_until

RATE = 10


class Scene:
    """A source `yard` that an EventRecorder follows, label by label.

    outputs: get its labels and actions; the recorder is the first. picture: the frame of a number.
    """

    def __init__(
        self,
        folder: Path,
        bundle: Bundle,
        *,
        live: bool = True,
        picture: Callable[[int], Frame] = lambda number: street(number % 100),
    ) -> None:
        self.bundle, self.store, self._picture = bundle, EventStore(folder), picture
        self.draw = draw = Annotator(bundle.manifest)
        margins = Margins(2.0, 1.0)
        self.recorder = EventRecorder(self.store, margins, bundle, draw, live).__enter__()
        self.recorder.begin(SourceInfo("yard", "yard", live, device="a device"))
        self.outputs: list[Output] = [self.recorder]
        self.number = 0

    def run(self, seconds: float, score: float = 0.1, action: str = "Diving") -> Label:
        for _ in range(round(seconds * RATE)):
            time_s = self.number / RATE
            frame = replace(
                self._picture(self.number), index=self.number, time_s=time_s, arrived_s=time_s
            )
            label = make_label(self.bundle.manifest, frame, action, score)
            for output in self.outputs:
                output.on_label(label)
            self.number += 1
        return label

    def start(self, action: str = "Diving", began_s: float = 0.3) -> Event:
        now_s = (self.number - 1) / RATE
        event = Event("yard", "start", action, now_s - began_s, now_s, 0.6)
        self._tell(event)
        return event

    def stop(self, event: Event, score: float = 0.9) -> None:
        now_s = (self.number - 1) / RATE
        self._tell(Event("yard", "end", event.label, event.started_s, now_s, score))

    def _tell(self, event: Event) -> None:
        for output in self.outputs:
            output.on_event(event)

    def finish(self) -> None:
        self.recorder.end("yard", {})
        self.recorder.finish()
        self.recorder.close()

    def folder_of(self, event: Event) -> Path:
        return wait_until(lambda: self.store.find(event.id))

    def copy(self, folder: Path, event_id: str, **changes: Any) -> None:
        """Write a recorded event once more, as another one. changes: of its record."""
        record = json.loads((folder / "event.json").read_text()) | {"id": event_id} | changes
        with self.store.writing("yard", record["label"], event_id) as other:
            for name in ("clip.mp4", "picture.jpg"):
                shutil.copy(folder / name, other)
            (other / "event.json").write_text(json.dumps(record))

    def record_of(self, event: Event) -> dict[str, Any]:
        return dict(json.loads((self.folder_of(event) / "event.json").read_text()))
