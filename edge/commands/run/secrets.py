"""Where the passwords and tokens of a run stand, and who else can read them there.

Every user of a machine sees the words of every command (`ps`), and a file by its mode.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.video.gstreamer import redact


def secret_options(values: Mapping[str, Any]) -> list[str]:
    """The options among a run's parameters that hold a secret, as on the command line.

    A webhook's address is one as a whole: tokens stand in its path and query.
    """
    cameras = [*(values.get("sources") or ()), *(values.get("source") or ())]
    held = {
        "a camera's address": any(redact(text) != text for text in cameras),
        "--pipeline": any(redact(text) != text for text in values.get("pipeline") or ()),
        "--token": bool(values.get("token")),
        "--mqtt": "@" in (values.get("mqtt") or ""),
        "--webhook": bool(values.get("webhook")),
    }
    return [name for name, found in held.items() if found]


def command_line_warning(words: Mapping[str, Any]) -> str | None:
    """words: the parameters that were given on the command line."""
    told = ", ".join(secret_options(words))
    if not told:
        return None
    return (
        f"everybody on this machine can read the command line, and a secret in it "
        f"({told}); put it into a file of mode 0600 and give --config FILE"
    )


def config_warning(path: Path, values: Mapping[str, Any]) -> str | None:
    """values: what the file holds."""
    told = ", ".join(secret_options(values))
    if not told or not path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return None
    return f"{path} holds a secret ({told}) and others can read it; run: chmod 600 {path}"
