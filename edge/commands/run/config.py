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

Every long option is a key; the command line takes precedence. SIGHUP reloads the file.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from edge.errors import ConfigError
from edge.redaction import redact_address

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PATHS = ("bundle", "video", "json", "events")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


def read_config(path: Path, options: Collection[str], repeated: Collection[str]) -> dict[str, Any]:
    """The file's values by option. options: the valid ones; repeated: those that take a list.

    Raises ConfigError if the file cannot be read, for unknown options and wrong types.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give a TOML file") from None
    except RecursionError:
        raise ConfigError(f"{path}: is not TOML (nested too deeply)") from None
    except ValueError as error:  # not TOML, not UTF-8, or a number with too many digits
        raise ConfigError(f"{path}: is not TOML ({error})") from None
    values: dict[str, Any] = {}
    for name, value in table.items():
        key = name.replace("-", "_")
        if key == "sources":
            values["source"] = _pairs(path, name, value)
        elif key == "threshold":
            values[key] = _pairs(path, name, value)
        elif key not in options or key == "config":
            raise ConfigError(
                f"{path}: {redact_address(name)} is not an option; options: {', '.join(options)}"
            )
        elif key in repeated:
            if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
                raise ConfigError(f'{path}: {name} must be a list of strings: {name} = ["..."]')
            values[key] = value
        elif isinstance(value, bool | int | float | str):
            values[key] = _placed(path, value) if key in _PATHS else value
        else:
            raise ConfigError(f"{path}: {name} must be one value, not {type(value).__name__}")
    return values


def config_text(values: Mapping[str, Any]) -> str:
    """A file that `read_config` reads as `values`: strings, numbers, booleans, lists and tables.

    Raises ConfigError for a string that is not UTF-8.
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
        # a JSON string is a TOML string, except for one character that TOML escapes
        return json.dumps(value, ensure_ascii=False).replace("\x7f", r"\u007f")
    return json.dumps(value)


def _pairs(path: Path, key: str, table: Any) -> list[str]:
    """`NAME=VALUE` for each row of a table."""
    if not isinstance(table, dict) or not table:
        raise ConfigError(f"{path}: {key} must be a table: [{key}], then NAME = ... on each line")
    for name, value in table.items():
        if isinstance(value, dict | list) or (key == "sources" and not _NAME.fullmatch(name)):
            raise ConfigError(
                f"{path}: {key}: {redact_address(name)!r}: give a name of letters, digits, - "
                "and _, and one value"
            )
    return [f"{name}={value}" for name, value in table.items()]


def _placed(path: Path, value: Any) -> Any:
    if not isinstance(value, str) or value == "-":
        return value
    try:
        return str(path.parent / Path(value).expanduser())
    except RuntimeError:
        raise ConfigError(f"{path}: {value!r}: no such user; give a full path") from None
