"""`twostream service`: writes a systemd user service, as a unit and a configuration file.

    ~/.config/systemd/user/twostream-NAME.service    runs: twostream run --config FILE
    ~/.config/twostream/NAME.toml                    the options; mode 0600, it may hold passwords

All users of a machine can read command lines, so the options are in the file.
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
# systemd accepts more, but non-ASCII names do not work reliably
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
TimeoutStopSec=60
NoNewPrivileges=true
PrivateTmp=true
ProtectSystem=full

[Install]
WantedBy=default.target
"""


def check_name(name: str) -> None:
    """Raises OutputError if `name` cannot be the name of a service."""
    if not _NAME.fullmatch(name):
        raise OutputError(
            f"{name!r}: a service name is up to 64 ASCII letters, digits, - and _, and starts "
            "with a letter or digit"
        )


def unit_text(name: str, config: Path) -> str:
    """The unit file of a service that runs `twostream run --config CONFIG` with this Python
    environment and in this folder. Raises OutputError if a path cannot be written in a unit."""
    program = str(Path(sys.executable).with_name("twostream"))
    words = [quote_program(program), *map(quote_word, ("run", "--config", str(config.absolute())))]
    return _UNIT.format(
        title=name, folder=quote_path(str(Path.cwd())), command=" ".join(words),
        watchdog_s=WATCHDOG_S,
    )  # fmt: skip


def quote_word(text: str) -> str:
    """Quote one argument of ExecStart=. Raises OutputError for characters that no unit may hold.

    In double quotes a backslash starts an escape, % a specifier and $ a variable (systemd.syntax,
    systemd.unit, systemd.service); everything else is literal.
    """
    return quote_program(text).replace("$", "$$")


def quote_program(text: str) -> str:
    """Quote the program of ExecStart=, in which $ is literal. Raises OutputError as quote_word."""
    _check(text)
    return '"' + text.replace("\\", r"\\").replace('"', r"\"").replace("%", "%%") + '"'


def quote_path(text: str) -> str:
    """Quote a path that is a whole setting, such as WorkingDirectory=, where neither quotes nor
    escapes are recognised. Raises OutputError for a path that cannot be written this way."""
    _check(text)
    if text != text.strip() or text.endswith("\\"):
        raise OutputError(f"{text!r}: systemd does not accept this folder name; rename it")
    return text.replace("%", "%%")


def _check(text: str) -> None:
    # a line break would start a new setting; a lone surrogate is a byte of a file name that is not
    # UTF-8
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text):
        raise OutputError(
            f"{text!r}: has control characters or is not UTF-8, which systemd does not accept in a "
            "path; rename it"
        )


def install(name: str, options: Mapping[str, Any] | None, config: Path | None) -> tuple[Path, Path]:
    """Write a user service (no root needed); return the paths of its unit and configuration file.

    options: written to a new configuration file, see edge.commands.run.config; None: `config` is
    used as it is. Raises OutputError if a file cannot be written.
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
        raise OutputError(
            f"{path}: was not written by twostream; give --config with this file and no other "
            "option, or choose another name"
        )
    with write_atomic(path, OutputError, SECRET) as file:
        file.write(f"{head}\n{config_text(options)}".encode())
