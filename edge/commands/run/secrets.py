"""Warnings about passwords and tokens of a run that other users of the machine can read.

All users can see every command line (`ps`), and a file if its mode allows it.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.redaction import redact


def secret_options(values: Mapping[str, Any]) -> list[str]:
    """The options of a run that hold a secret, as written on the command line.

    A webhook's URL is secret as a whole: services put tokens into its path and query.
    """
    cameras = [*(values.get("sources") or ()), *(values.get("source") or ())]
    secrets = {
        "a camera's address": any(redact(text) != text for text in cameras),
        "--pipeline": any(redact(text) != text for text in values.get("pipeline") or ()),
        "--token": bool(values.get("token")),
        "--mqtt": "@" in (values.get("mqtt") or ""),
        "--webhook": bool(values.get("webhook")),
    }
    return [name for name, is_secret in secrets.items() if is_secret]


def command_line_warning(words: Mapping[str, Any]) -> str | None:
    """words: the parameters that were given on the command line."""
    options = ", ".join(secret_options(words))
    if not options:
        return None
    return (
        f"all users of this machine can read the command line, and a secret in it "
        f"({options}); put it into a file of mode 0600 and give --config FILE"
    )


def config_warning(path: Path, values: Mapping[str, Any]) -> str | None:
    """values: the options in the file."""
    options = ", ".join(secret_options(values))
    if not options or not path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return None
    return f"{path} holds a secret ({options}) and others can read it; run: chmod 600 {path}"
