"""Labels and events of a run as JSON lines."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from edge.bundle.manifest import Manifest
from edge.decision.events import Event
from edge.decision.label import Label
from edge.errors import OutputError
from edge.files import why
from edge.outputs.base import Output
from edge.outputs.health import OutputHealth, OutputState
from edge.outputs.part_file import PartFile
from edge.outputs.records import event_record, label_record, output_record, state_record
from edge.outputs.rotation import Segments
from edge.outputs.write_faults import WriteFaults
from edge.sources.reconnect import SourceState


class JsonLinesOutput(Output):
    """One JSON line for each label, event, summary and change of the state of a source or output.

    goes_on: whether the run does where a line cannot be written, see edge.outputs.write_faults.
    """

    health: OutputHealth

    def __init__(self, path: str, segments: Segments, manifest: Manifest, goes_on: bool) -> None:
        self._path = None if path == "-" else Path(path)
        self._segments, self._manifest = segments, manifest
        self.health = OutputHealth("json", "lines not written")
        self._faults = WriteFaults(self.health, goes_on)
        self._lines: JsonLines | None = None  # None: none could be opened
        self._began_s: float | None = None  # None: no file of this run yet
        self._finished = False

    def __enter__(self) -> JsonLinesOutput:
        self._faults.may_open("")
        self._open()
        return self

    def on_label(self, label: Label) -> None:
        self._write(label.source, label_record(label, self._manifest))

    def on_event(self, event: Event) -> None:
        self._write(event.source, event_record(event))

    def on_source_state(self, state: SourceState) -> None:
        self._write(state.name, state_record(state))

    def on_output_state(self, state: OutputState) -> None:
        news = state.state == "failing" or state.lost  # that all work at first goes without saying
        if news and not self._finished:  # other outputs may fail when they finish
            self._write("", output_record(state))

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
        if summary is not None:
            self._write(source, {"summary": summary})

    def _write(self, source: str, record: dict[str, Any]) -> None:
        try:
            lines = self._current()
            if lines is None:
                self.health.lose(source)
            elif lines.write(record):
                self._faults.written("")
            else:
                self.done = True
        except OutputError as fault:
            self._faults.note("", fault)
            self.health.lose(source)
            self._abandon()

    def _current(self) -> JsonLines | None:
        """The lines to write to; None: it is not yet time to try again. Raises OutputError."""
        every_s = self._segments.every_s
        if self._lines is not None and self._path is not None and every_s is not None:
            assert self._began_s is not None
            if time.monotonic() - self._began_s >= every_s:
                self._finish_file()
        if self._lines is None and self._faults.may_open(""):
            self._open()
        return self._lines

    def finish(self) -> None:
        self._finish_file()
        self._finished = True

    def _finish_file(self) -> None:
        lines, self._lines = self._lines, None
        if lines is None:
            return
        try:
            lines.finish()
            self._faults.over("")
        except OutputError as fault:
            self._faults.note("", fault)
        finally:
            lines.__exit__(None, None, None)

    def _open(self) -> None:
        path: Path | None = None
        if self._path is not None:
            path = self._segments.name(self._path, "", self._began_s is not None)
            self._segments.prune(self._path, {""}, {path})
        lines = JsonLines(path or "-")
        self._lines = lines.__enter__()
        self._began_s = time.monotonic()

    def _abandon(self) -> None:
        """Close a file that is incomplete, which keeps the name NAME.part. Standard output cannot
        be opened again: it is tried with each line."""
        if self._lines is not None and self._path is not None:
            self._lines.__exit__(None, None, None)
            self._lines = None

    def close(self) -> None:
        if self._lines is not None:
            self._lines.__exit__(None, None, None)


class JsonLines:
    """Writes one compact JSON object per line to a file or, for `-`, to standard output.

    with JsonLines("labels.jsonl") as out:
        out.write({"time_s": 1.2, "label": "Archery"})
        out.finish()

    Every line is written at once and whole. Until `finish()` the lines are in `NAME.part`.
    """

    def __init__(self, path: str | Path) -> None:
        self._part = None if str(path) == "-" else PartFile(Path(path))
        self._file: int | None = None  # a descriptor
        self._rest = b""  # of a line that standard output has only the beginning of

    def __enter__(self) -> JsonLines:
        if self._part:
            self._file = self._part.open()
            self._part.keep()
        else:
            sys.stdout.flush()
            self._file = sys.stdout.fileno()
        return self

    def write(self, record: dict[str, Any]) -> bool:
        """Write a line. Returns False if the reader of standard output is gone (`| head`).

        Raises OutputError if the file cannot be written, ValueError for NaN and infinity, which
        JSON does not have.
        """
        if self._file is None:
            return False
        # if standard output is not UTF-8, use JSON escapes
        escaped = self._part is None and "utf" not in (sys.stdout.encoding or "utf-8").lower()
        text = json.dumps(record, separators=(",", ":"), ensure_ascii=escaped, allow_nan=False)
        # a file's name may hold what is no UTF-8; such an escape is JSON's, too
        return self._write_whole(self._file, f"{text}\n".encode(errors="backslashreplace"))

    def _write_whole(self, file: int, line: bytes) -> bool:
        """Returns False if nobody reads standard output any more. Raises OutputError."""
        data, written = self._rest + line, 0
        try:
            if self._part:
                self._part.check()
            while written < len(data):
                written += os.write(file, data[written:])
        except BrokenPipeError:
            self._abandon_stdout()
            return False
        except OSError as fault:
            if self._part:
                self._part.cut(file, written)
            elif written:  # what has begun there has to be completed first
                self._rest = data[written:]
            name = self._part.part if self._part else "standard output"
            raise OutputError(f"{name}: {why(fault)}; the lines so far are kept") from None
        self._rest = b""
        return True

    def finish(self) -> None:
        """Call at the regular end: the file gets its name, even if it has no lines."""
        if self._part and self._file is not None:
            self._close(self._part, self._file)
            self._part.publish()
        self._file = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._part and self._file is not None:
            with contextlib.suppress(OutputError):  # the file is incomplete anyway
                self._close(self._part, self._file)
            self._part.discard_if_empty()
        self._file = None

    def _close(self, part: PartFile, file: int) -> None:
        """Raises OutputError: a network's file system may write only now."""
        self._file = None
        try:
            os.close(file)
        except OSError as fault:
            raise OutputError(f"{part.part}: {why(fault)}; the lines so far are kept") from None

    def _abandon_stdout(self) -> None:
        """Send later output, and the interpreter's last flush, to /dev/null.

        Otherwise Python exits with a message and code 120 (its documentation, "Note on SIGPIPE").
        """
        self._file = None
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
