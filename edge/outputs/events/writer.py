"""Writes the folders of events in a thread of its own, since a slow card may take long."""

from __future__ import annotations

import json
import queue
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from edge.errors import OutputError
from edge.outputs.events.clip_file import write_clip
from edge.outputs.events.event_store import CLIP, PICTURE, RECORD, EventStore
from edge.outputs.health import OutputHealth
from edge.video.packets import Packet

WAITING_MAX = 4  # events that wait to be written
_CHECK_S = 1.0  # how often it is seen that the writing has ended
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
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._write_all, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, files: EventFiles) -> None:
        """Write an event soon. A run of cameras does not wait where too many are waiting: the event
        is lost and counted. Raises OutputError."""
        while True:
            self.check()
            try:
                self._waiting.put(files, block=not self._goes_on, timeout=_CHECK_S)
            except queue.Full:
                if self._goes_on:
                    self._lose(files, f"{WAITING_MAX} events wait to be written; it is too slow")
                    return
            else:
                return

    def finish(self) -> None:
        """Wait until all are written. Raises OutputError."""
        self.close()
        self.check()

    def close(self) -> None:
        """Write what waits, within _END_S; what is left then is lost."""
        if not self._thread.is_alive():
            return
        with suppress(queue.Full):
            self._waiting.put(None, timeout=_END_S)
        self._thread.join(_END_S)
        with suppress(queue.Empty):
            while self._thread.is_alive():
                if (files := self._waiting.get_nowait()) is not None:
                    self._lose(files, f"it was not written within {_END_S:g} s")

    def check(self) -> None:
        """Raises what ended the writing: OutputError where an event of a run of files could not be
        written."""
        if self._fault is not None:
            raise self._fault

    def _write_all(self) -> None:
        try:
            while (files := self._waiting.get()) is not None:
                self._write_or_lose(files)
        except Exception as bug:  # for the run's thread
            self._fault = bug

    def _write_or_lose(self, files: EventFiles) -> None:
        try:
            self._write(files)
        except OutputError as fault:
            if not self._goes_on:
                self._fault = self._fault or fault
            self._lose(files, str(fault))
            return
        if files.packets:
            self._health.recover()
        self._store.prune()

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
