"""A run as a systemd service: its unit and its options, and what the manager wants to be told.

    ~/.config/systemd/user/twostream-NAME.service    only says: twostream run --config FILE
    ~/.config/twostream/NAME.toml                    the options; mode 0600, passwords stand in it

A command line can be read by everybody on the machine, so no option stands there.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.commands.run.config import config_text
from edge.errors import OutputError
from edge.files import SECRET, read_start, user_config, why, write_atomic

WATCHDOG_S = 60
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


def check_name(name: str) -> None:
    """Raises OutputError where `name` cannot be a service's."""
    if not _NAME.fullmatch(name):
        raise OutputError(
            f"{name!r}: a service's name is up to 64 ASCII letters, digits, - and _, and begins "
            "with a letter or digit"
        )


def unit_text(name: str, config: Path) -> str:
    """The unit of a service that does `twostream run --config CONFIG` from this environment and
    folder. Raises OutputError where systemd cannot be told one of the paths."""
    program = str(Path(sys.executable).with_name("twostream"))
    words = [quote_program(program), *map(quote_word, ("run", "--config", str(config.absolute())))]
    return _UNIT.format(
        title=name, folder=quote_path(str(Path.cwd())), command=" ".join(words),
        watchdog_s=WATCHDOG_S,
    )  # fmt: skip


def quote_word(text: str) -> str:
    """One argument in ExecStart=. Raises OutputError for what no unit may hold.

    In double quotes a backslash begins an escape, % a specifier and $ a variable (systemd.syntax,
    systemd.unit, systemd.service); all else stands for itself.
    """
    return quote_program(text).replace("$", "$$")


def quote_program(text: str) -> str:
    """The first word in ExecStart=, in which a $ stands for itself. Raises OutputError as above."""
    _check(text)
    return '"' + text.replace("\\", r"\\").replace('"', r"\"").replace("%", "%%") + '"'


def quote_path(text: str) -> str:
    """A path as the whole of a setting, such as WorkingDirectory=: neither quotes nor escapes are
    known there. Raises OutputError for what cannot be said so."""
    _check(text)
    if text != text.strip() or text.endswith("\\"):
        raise OutputError(f"{text!r}: systemd takes no folder that ends so; rename it")
    return text.replace("%", "%%")


def _check(text: str) -> None:
    # a line break would begin a setting of its own; half of a surrogate pair is a byte of a file
    # name that is not UTF-8
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text):
        raise OutputError(
            f"{text!r}: has control characters or is not UTF-8, which systemd takes in no path; "
            "rename it"
        )


def install(name: str, options: Mapping[str, Any] | None, config: Path | None) -> tuple[Path, Path]:
    """Write the unit of a service of yours, no root needed, and return it and its configuration.

    options: for a configuration file of its own, see edge.commands.run.config; None: `config` is
    used as it is. Raises OutputError where they cannot be written.
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
    with write_atomic(unit, OutputError, SECRET) as file:
        file.write(text.encode())
    return unit, config


def _write_config(path: Path, name: str, options: Mapping[str, Any]) -> None:
    head = _WRITTEN.format(name=name)
    try:
        ours = read_start(path, len(head)) == head.encode()
    except FileNotFoundError:
        ours = True
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({why(error)})") from None
    if not ours:
        raise OutputError(f"{path}: is a file of yours; give it alone as --config, or another name")
    with write_atomic(path, OutputError, SECRET) as file:
        file.write(f"{head}\n{config_text(options)}".encode())
