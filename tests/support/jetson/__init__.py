"""A stand-in for a Jetson's video elements (elements.c), and sources that are read on it."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.video.frames import Frame
from tests.support.paths import REPOSITORY

ELEMENTS_C = Path(__file__).with_name("elements.c")
_READ = "tests.support.jetson.read"


def build_plugin(source: Path, target: Path, *options: str) -> Path:
    """Compile a GStreamer plug-in."""
    query = ["pkg-config", "--cflags", "--libs", "gstreamer-base-1.0"]
    if (
        not all(map(shutil.which, ("gcc", "pkg-config")))
        or subprocess.run(query, stdout=subprocess.DEVNULL, check=False).returncode
    ):
        pytest.skip("gcc or GStreamer's headers are missing; see apt-packages-test.txt")
    flags = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()
    command = ["gcc", "-shared", "-fPIC", "-Wall", *options, "-o", target, source, *flags]
    subprocess.run(command, check=True)
    return target


def plugin_environment(folder: Path) -> dict[str, str]:
    """Variables with which a process finds the plug-ins of `folder` beside the installed ones; the
    user's list of plug-ins is left alone."""
    return {"GST_PLUGIN_PATH": str(folder), "GST_REGISTRY": str(folder / "registry.bin")}


@functools.cache
def _stand_in() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory()
    build_plugin(ELEMENTS_C, Path(folder.name) / "libgstnvstandin.so")
    return folder


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source gave. frames: a row each, see read.py; last: the planes of the last one, alone;
    fault: the error that ended it, or None; held: the fewest pictures that were in the decoder but
    not yet received, once some had come; log: what the stand-in has noted so far; errors: what the
    process wrote to stderr."""

    frames: list[dict[str, Any]]
    last: Frame
    fault: str | None
    held: int
    damaged: int
    log: list[str]
    errors: str


def read_on_jetson(
    *addresses: str, frames: int = 5, environment: Mapping[str, str] | None = None
) -> list[Reading]:
    """Read sources, one after the other, in a process on the stand-in. The address `usb` is a USB
    camera that sends JPEG. environment: see elements.c."""
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run(
            [sys.executable, "-m", _READ, out, str(frames), *addresses],
            cwd=REPOSITORY,
            env=os.environ
            | plugin_environment(Path(_stand_in().name))
            | {"STAND_IN_LOG": f"{out}/log"}
            | (environment or {}),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [_reading(Path(out), row, done.stderr) for row in done.stdout.splitlines()]


def _reading(folder: Path, row: str, errors: str) -> Reading:
    values = json.loads(row)
    planes: Sequence[Any] = [np.zeros((2, 2), np.uint8)] * 3
    if values["planes"]:
        with np.load(folder / values["planes"]) as stored:
            planes = [stored[name] for name in "yuv"]
    told = values["frames"][-1] if values["frames"] else {"matrix": "bt601", "full_range": False}
    last = Frame(*planes, time_s=0.0, index=0, matrix=told["matrix"], full_range=told["full_range"])
    shared = {key: values[key] for key in ("frames", "fault", "held", "damaged", "log")}
    return Reading(last=last, errors=errors, **shared)
