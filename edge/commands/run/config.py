"""`twostream run --config FILE`: the options of the command line, in TOML.

    bundle = "bundles/yard"          # paths are relative to the file's folder
    web = "8080"
    every = 2
    ignore = ["Swing"]
    [sources]
    yard = "rtsp://user:password@host/stream"
    gate = "/dev/video0"
    [threshold]
    Diving = 0.9

Every long option is a key; what is given on the command line counts more. SIGHUP reads it again.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from edge.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PATHS = ("bundle", "video", "json")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


def read_config(path: Path, options: Collection[str], repeated: Collection[str]) -> dict[str, Any]:
    """The file's values by option; options: those there are, repeated: those that take several.

    Raises ConfigError for what cannot be read, no option, or a value of the wrong kind.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give a TOML file") from None
    except RecursionError:
        raise ConfigError(f"{path}: is not TOML (nested too deeply)") from None
    except ValueError as error:  # no TOML, no UTF-8, a number of too many digits
        raise ConfigError(f"{path}: is not TOML ({error})") from None
    values: dict[str, Any] = {}
    for given, value in found.items():
        key = given.replace("-", "_")
        if key == "sources":
            values["source"] = _pairs(path, given, value)
        elif key == "threshold":
            values[key] = _pairs(path, given, value)
        elif key not in options or key == "config":
            raise ConfigError(f"{path}: {given} is no option; there are {', '.join(options)}")
        elif key in repeated:
            if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
                raise ConfigError(f'{path}: {given} is a list of texts: {given} = ["..."]')
            values[key] = value
        elif isinstance(value, bool | int | float | str):
            values[key] = _placed(path, value) if key in _PATHS else value
        else:
            raise ConfigError(f"{path}: {given} is one value, not {type(value).__name__}")
    return values


def config_text(values: Mapping[str, Any]) -> str:
    """The file that `read_config` reads as `values`: texts, numbers, booleans, lists and tables.

    Raises ConfigError for a text that is not UTF-8.
    """
    text = "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError("a file's name is not UTF-8; rename it") from None
    return text


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_toml(key)} = {_toml(one)}' for key, one in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        # a JSON text is a TOML text, but for one character that TOML has escaped
        return json.dumps(value, ensure_ascii=False).replace("\x7f", r"\u007f")
    return json.dumps(value)


def _pairs(path: Path, key: str, table: Any) -> list[str]:
    """`NAME=VALUE` for each row of a table."""
    if not isinstance(table, dict) or not table:
        raise ConfigError(f"{path}: {key} is a table: [{key}], then NAME = ... on each line")
    for name, value in table.items():
        if isinstance(value, dict | list) or (key == "sources" and not _NAME.fullmatch(name)):
            raise ConfigError(
                f"{path}: {key}: {name!r}: give a name of letters, digits, - and _, and one value"
            )
    return [f"{name}={value}" for name, value in table.items()]


def _placed(path: Path, value: Any) -> Any:
    if not isinstance(value, str) or value == "-":
        return value
    try:
        return str(path.parent / Path(value).expanduser())
    except RuntimeError:
        raise ConfigError(f"{path}: {value!r}: there is no such user; give a full path") from None
