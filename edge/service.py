"""A run as a systemd service: its unit and its options, and what the manager wants to be told.

    ~/.config/systemd/user/twostream-NAME.service    only says: twostream run --config FILE
    ~/.config/twostream/NAME.toml                    the options; mode 0600, passwords stand in it

A command line can be read by everybody on the machine, so no option stands there.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import time
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.config import config_text
from edge.errors import SinkError
from edge.files import SECRET, read_start, user_config, why, write_atomic
from edge.listener import Output
from edge.runtime import Label
from edge.supervisor import SourceState
from edge.text import printable

WATCHDOG_S = 60
_TELL_S = 5.0
# systemd takes more, but a name beyond ASCII only seems to be one
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_WRITTEN = "# Written by: twostream service {name}"
_UNIT = """\
[Unit]
Description=twostream: {title}
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
WorkingDirectory={folder}
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=5
WatchdogSec={watchdog_s}
TimeoutStartSec=30min
TimeoutStopSec=10
NoNewPrivileges=true
PrivateTmp=true
ProtectSystem=full

[Install]
WantedBy=default.target
"""


class SystemdNotifier(Output):
    """Tells systemd, where it listens, that the run is up, alive, and what its camera does.

    A camera that is away is no reason to be restarted: waiting for it is being alive.
    """

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._told_s, self._ready = 0.0, False
        self._status = "running"
        self._away: dict[str, str] = {}  # cameras, and why

    def __enter__(self) -> SystemdNotifier:
        self._ready = self._send("READY=1")
        return self

    def close(self) -> None:
        self._send("STOPPING=1")

    def on_label(self, label: Label) -> None:
        self._alive()

    def on_source_state(self, state: SourceState) -> None:
        self._away.pop(state.name, None)
        if state.state != "running":
            self._away[state.name] = printable(f"{state.name} {state.state}: {state.reason}")
        self._status = "; ".join(self._away.values()) or "running"
        self._told_s = 0.0
        self._alive()

    def end(self, source: str, summary: dict[str, Any] | None) -> None:
        self._away.pop(source, None)

    def _alive(self) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s >= _TELL_S:
            self._told_s = now_s
            ready = "" if self._ready else "READY=1\n"
            self._ready |= self._send(f"{ready}WATCHDOG=1\nSTATUS={self._status}")

    def _send(self, text: str) -> bool:
        """Whether the manager has it. The run does not wait for one that is behind: the next
        message says the same."""
        if not self._address:
            return False
        # a leading @ names an abstract socket
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.setblocking(False)
            try:
                out.sendto(text.encode(), address)
                return True
            except BlockingIOError:
                pass
            except OSError:  # the manager has gone; the run goes on
                self._address = ""
        return False


def check_name(name: str) -> None:
    """Raises SinkError where `name` cannot be a service's."""
    if not _NAME.fullmatch(name):
        raise SinkError(
            f"{name!r}: a service's name is up to 64 ASCII letters, digits, - and _, and begins "
            "with a letter or digit"
        )


def unit_text(name: str, config: Path) -> str:
    """The unit of a service that does `twostream run --config CONFIG` from this environment and
    folder. Raises SinkError where systemd cannot be told one of the paths."""
    program = str(Path(sys.executable).with_name("twostream"))
    words = [quote_program(program), *map(quote_word, ("run", "--config", str(config.absolute())))]
    return _UNIT.format(
        title=name, folder=quote_path(str(Path.cwd())), command=" ".join(words),
        watchdog_s=WATCHDOG_S,
    )  # fmt: skip


def quote_word(text: str) -> str:
    """One argument in ExecStart=. Raises SinkError for what no unit may hold.

    In double quotes a backslash begins an escape, % a specifier and $ a variable (systemd.syntax,
    systemd.unit, systemd.service); all else stands for itself.
    """
    return quote_program(text).replace("$", "$$")


def quote_program(text: str) -> str:
    """The first word in ExecStart=, in which a $ stands for itself. Raises SinkError as above."""
    _check(text)
    return '"' + text.replace("\\", r"\\").replace('"', r"\"").replace("%", "%%") + '"'


def quote_path(text: str) -> str:
    """A path as the whole of a setting, such as WorkingDirectory=: neither quotes nor escapes are
    known there. Raises SinkError for what cannot be said so."""
    _check(text)
    if text != text.strip() or text.endswith("\\"):
        raise SinkError(f"{text!r}: systemd takes no folder that ends so; rename it")
    return text.replace("%", "%%")


def _check(text: str) -> None:
    # a line break would begin a setting of its own; half of a surrogate pair is a byte of a file
    # name that is not UTF-8
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text):
        raise SinkError(
            f"{text!r}: has control characters or is not UTF-8, which systemd takes in no path; "
            "rename it"
        )


def install(name: str, options: Mapping[str, Any] | None, config: Path | None) -> tuple[Path, Path]:
    """Write the unit of a service of yours, no root needed, and return it and its configuration.

    options: for a configuration file of its own, see edge.config; None: `config` is used as it is.
    Raises SinkError where they cannot be written.
    """
    check_name(name)
    unit = user_config() / "systemd" / "user" / f"twostream-{name}.service"
    if options is None:
        assert config is not None
    else:
        config = user_config() / "twostream" / f"{name}.toml"
    text = unit_text(name, config)
    if options is not None:
        _write_config(config, name, options)
    with write_atomic(unit, SinkError, SECRET) as file:
        file.write(text.encode())
    return unit, config


def _write_config(path: Path, name: str, options: Mapping[str, Any]) -> None:
    head = _WRITTEN.format(name=name)
    try:
        ours = read_start(path, len(head)) == head.encode()
    except FileNotFoundError:
        ours = True
    except OSError as error:
        raise SinkError(f"{path}: cannot be read ({why(error)})") from None
    if not ours:
        raise SinkError(f"{path}: is a file of yours; give it alone as --config, or another name")
    with write_atomic(path, SinkError, SECRET) as file:
        file.write(f"{head}\n{config_text(options)}".encode())
