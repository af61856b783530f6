"""Labels and events of a run as JSON lines."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from edge.bundle.manifest import Manifest
from edge.decision.events import Event
from edge.decision.label import Label
from edge.errors import OutputError
from edge.outputs.base import Output
from edge.outputs.part_file import PartFile
from edge.outputs.records import event_record, label_record, state_record
from edge.outputs.rotation import Segments
from edge.sources.reconnect import SourceState


class JsonLinesOutput(Output):
    """One JSON line for each label, event, change of state and summary."""

    def __init__(self, path: str, segments: Segments, manifest: Manifest) -> None:
        self._path = None if path == "-" else Path(path)
        self._segments, self._manifest = segments, manifest
        self._lines: JsonLines | None = None
        self._began_s = 0.0

    def __enter__(self) -> JsonLinesOutput:
        self._open()
        return self

    def on_label(self, label: Label) -> None:
        self._write(label_record(label, self._manifest))

    def on_event(self, event: Event) -> None:
        self._write(event_record(event))

    def on_source_state(self, state: SourceState) -> None:
        self._write(state_record(state))

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
        if summary is not None:
            self._write({"summary": summary})

    def _write(self, record: dict[str, Any]) -> None:
        assert self._lines is not None
        every_s = self._segments.every_s
        if self._path and every_s is not None and time.monotonic() - self._began_s >= every_s:
            self.finish()
            self._open()
        if not self._lines.write(record):
            self.done = True

    def finish(self) -> None:
        assert self._lines is not None
        self._lines.finish()
        self._lines.__exit__(None, None, None)

    def _open(self) -> None:
        path = self._path and self._segments.name(self._path, "")
        if self._path is not None and path is not None:
            self._segments.prune(self._path, {""}, {path})
        self._lines = JsonLines(path or "-")
        self._lines.__enter__()
        self._began_s = time.monotonic()

    def close(self) -> None:
        if self._lines is not None:
            self._lines.__exit__(None, None, None)


class JsonLines:
    """Writes one compact JSON object per line to a file or, for `-`, to standard output.

    with JsonLines("labels.jsonl") as out:
        out.write({"time_s": 1.2, "label": "Archery"})
        out.finish()

    Every line is flushed. Until `finish()` the lines are in `NAME.part`.
    """

    def __init__(self, path: str | Path) -> None:
        self._part = None if str(path) == "-" else PartFile(Path(path))
        self._file: TextIO | None = None

    def __enter__(self) -> JsonLines:
        if self._part:
            self._file = os.fdopen(self._part.open(), "w", encoding="utf-8")
            self._part.keep()
        else:
            self._file = sys.stdout
        return self

    def write(self, record: dict[str, Any]) -> bool:
        """Write a line. Returns False if the reader of standard output is gone (`| head`).

        Raises OutputError if the file cannot be written, ValueError for NaN and infinity, which
        JSON does not have.
        """
        if self._file is None:
            return False
        # if standard output is not UTF-8, use JSON escapes
        escaped = "utf" not in (self._file.encoding or "utf-8").lower()
        line = json.dumps(record, separators=(",", ":"), ensure_ascii=escaped, allow_nan=False)
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except BrokenPipeError:
            if self._part:
                raise
            self._abandon_stdout()
            return False
        except OSError as fault:
            raise self._unwritten(fault) from None
        return True

    def _unwritten(self, fault: OSError) -> OutputError:
        name = self._part.part if self._part else "standard output"
        return OutputError(f"{name}: {fault.strerror}; the lines so far are kept")

    def finish(self) -> None:
        """Call at the regular end: the file gets its name, even if it has no lines."""
        if self._part and self._file:
            try:
                self._file.close()
            except OSError as fault:
                raise self._unwritten(fault) from None
            self._part.publish()
        self._file = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._part and self._file:
            try:
                self._file.close()
            except OSError as error:
                # otherwise write() has already raised it, for the line that is still buffered
                if fault is None:
                    raise self._unwritten(error) from None
            self._part.discard_if_empty()
        self._file = None

    def _abandon_stdout(self) -> None:
        """Send later output, and the interpreter's last flush, to /dev/null.

        Otherwise Python exits with a message and code 120 (its documentation, "Note on SIGPIPE").
        """
        self._file = None
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
