"""Sets up logging for the commands. A program that embeds these packages has handlers of its own.

    on a terminal         lines above the progress bar, warnings in yellow
    in a file or a pipe   the same lines, plain
    in systemd's journal  lines with their priority in front, as sd-daemon(3) has it

Info is a plain line, other levels are named: "warning: ...". At level debug, lines also have their
time and logger, but for the journal, which has times of its own.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Literal

from edge.redaction import redact_words
from edge.text import printable

Level = Literal["debug", "info", "warning", "error"]

_LEVELS: dict[Level, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
# Records of other packages are shown only from level warning on.
_PACKAGES = ("edge", "train", "calibration", "export")
_PREFIXES = {number: f"{name}: " for name, number in _LEVELS.items() if name != "info"}
_STYLES = {logging.DEBUG: "dim", logging.WARNING: "yellow", logging.ERROR: "red"}
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


def configure(level: Level) -> None:
    """Send records of this level and above to stderr; called again, only the level changes."""
    number = _LEVELS[level]
    root = logging.getLogger()
    if not any(isinstance(handler, _StderrHandler) for handler in root.handlers):
        root.addHandler(_StderrHandler())
    root.setLevel(max(number, logging.WARNING))
    for name in _PACKAGES:
        logging.getLogger(name).setLevel(number)


def silence() -> None:
    """Show errors alone, and no progress bars: for all processes of a job but the first."""
    from edge.terminal import stderr_console

    configure("error")
    stderr_console().quiet = True


def current_level() -> Level:
    """The configured level, to pass on to child processes."""
    number = logging.getLogger(__name__).getEffectiveLevel()
    return next((name for name, other in _LEVELS.items() if number <= other), "error")


def read_line(line: str) -> tuple[int, str]:
    """Level and text of a line that this module wrote in another process."""
    for number, prefix in _PREFIXES.items():
        if line.startswith(prefix):
            return number, line.removeprefix(prefix)
    return logging.INFO, line


def print_error(message: str) -> None:
    """The one line of a user's error, whatever the level."""
    _write(_shown(f"twostream: {message}"), logging.ERROR)


class _StderrHandler(logging.Handler):
    """Writes to what sys.stderr is at the time."""

    def __init__(self) -> None:
        super().__init__()
        self._process = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        from edge.terminal import print_styled, stderr_console  # rich is slow to import

        try:
            text = self.format(record)
            console = stderr_console()
            # In a forked worker the console is a copy that draws a bar of its own, and whose lock
            # may be held for ever.
            if console.is_terminal and os.getpid() == self._process and not _in_journal():
                print_styled(text, _STYLES.get(_level_of(record), ""))
            else:
                _write(text, _level_of(record))
        except Exception:
            self.handleError(record)

    def format(self, record: logging.LogRecord) -> str:
        text = _shown(record.getMessage())
        if record.exc_info:
            trace = logging.Formatter().formatException(record.exc_info)
            text = "\n".join([text, *map(_shown, trace.splitlines())])
        if _in_journal():
            return text
        if logging.getLogger(record.name).isEnabledFor(logging.DEBUG):
            time = logging.Formatter().formatTime(record, "%H:%M:%S")
            text = f"{time} {record.name}: {text}"
        return _PREFIXES.get(_level_of(record), "") + text


def _shown(text: str) -> str:
    """In one line, and without the passwords that a library or a file's name may have brought."""
    return printable(redact_words(text))


def _level_of(record: logging.LogRecord) -> int:
    """The record's level, rounded down to one of the four."""
    return max((n for n in _PRIORITIES if n <= record.levelno), default=logging.DEBUG)


def _write(text: str, level: int) -> None:
    """In the journal a line is a record: each has the priority."""
    if _in_journal():
        text = "\n".join(f"<{_PRIORITIES[level]}>{line}" for line in text.split("\n"))
    # at once, so that lines of several processes do not mix
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _in_journal() -> bool:
    """Whether stderr goes to the journal: JOURNAL_STREAM, which child processes keep, says which
    file that would be."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):  # closed, or no file
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
