"""Writes the folders of events in a thread of its own, since a slow card may take long."""

from __future__ import annotations

import json
import queue
import threading
from dataclasses import dataclass
from typing import Any

from edge.errors import OutputError
from edge.outputs.events.clip_file import write_clip
from edge.outputs.events.event_store import CLIP, PICTURE, RECORD, EventStore
from edge.outputs.health import OutputHealth
from edge.video.packets import Packet

WAITING_MAX = 4  # events that wait to be written
_END_S = 30.0  # at the end of the run, for writing what waits


@dataclass(frozen=True, slots=True)
class EventFiles:
    """What is to be written of an event. slug: of its source. record: event.json. packets: of the
    clip; none: there is no clip."""

    source: str
    slug: str
    record: dict[str, Any]
    picture: bytes
    packets: list[Packet]


class EventWriter:
    """goes_on: whether the run does where an event cannot be written (see
    edge.outputs.write_faults); if not, `put` and `finish` raise the fault."""

    def __init__(self, store: EventStore, health: OutputHealth, goes_on: bool) -> None:
        self._store, self._health, self._goes_on = store, health, goes_on
        self._waiting: queue.Queue[EventFiles | None] = queue.Queue(WAITING_MAX)
        self._fault: OutputError | None = None
        self._thread = threading.Thread(target=self._write_all, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, files: EventFiles) -> None:
        """Write an event soon. A run of cameras does not wait where too many are waiting: the event
        is lost and counted. Raises OutputError."""
        self.check()
        try:
            self._waiting.put(files, block=not self._goes_on)
        except queue.Full:
            self._lose(files, f"{WAITING_MAX} events wait to be written; the disk is too slow")

    def finish(self) -> None:
        """Wait until all are written. Raises OutputError."""
        self.close()
        self.check()

    def close(self) -> None:
        """Write what waits, within _END_S."""
        if self._thread.is_alive():
            try:
                self._waiting.put(None, timeout=_END_S)
            except queue.Full:
                return
            self._thread.join(_END_S)

    def check(self) -> None:
        """Raises OutputError if an event of a run of files could not be written."""
        if self._fault is not None:
            raise self._fault

    def _write_all(self) -> None:
        while (files := self._waiting.get()) is not None:
            try:
                self._write(files)
                if files.packets:
                    self._health.recover()
                self._store.prune()
            except OutputError as fault:
                if not self._goes_on:
                    self._fault = self._fault or fault
                self._lose(files, str(fault))

    def _write(self, files: EventFiles) -> None:
        record = files.record
        with self._store.writing(files.slug, record["label"], record["id"]) as folder:
            if files.packets:
                seconds = write_clip(folder / CLIP, files.packets)
                record["clip"]["seconds"] = round(seconds, 3)
            (folder / PICTURE).write_bytes(files.picture)
            text = json.dumps(record, ensure_ascii=False, allow_nan=False)
            (folder / RECORD).write_bytes(text.encode(errors="backslashreplace"))

    def _lose(self, files: EventFiles, reason: str) -> None:
        self._health.lose(files.source)
        self._health.fail(reason)
