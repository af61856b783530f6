"""Has the ways of a device tried by another process, which may die of them."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from edge.bundle.manifest import Bundle, sha256
from edge.commands.self_check.child import Request, request_json
from edge.devices import DeviceName
from edge.devices.inference import Way
from edge.errors import BundleError, DeviceError
from edge.log import current_level

logger = logging.getLogger(__name__)

# What a fault of a processor's kernels ends a process with. SIGKILL, where memory is short, and
# SIGALRM, where the machine is busy, say nothing of the next time.
_LASTING = (signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGABRT)


@dataclass(frozen=True, slots=True)
class Tried:
    """fault: why it is not right, or None: it is. lasting: that will be so the next time.
    of_bundle: the bundle is at fault."""

    way: Way
    fault: str | None
    lasting: bool = True
    of_bundle: bool = False


def try_ways(
    name: DeviceName, bundle: Bundle, ways: Sequence[Way], meanwhile: Callable[[], None]
) -> list[Tried]:
    """Those that were tried, in turn; the last is right, or none is. A way that ends its process is
    followed by another process for the ways after it. meanwhile: called once, while the first
    process works; if it raises, that is what is raised here."""
    tried = _ask(name, bundle, ways, meanwhile)
    while len(tried) < len(ways) and tried[-1].fault is not None:
        tried += _ask(name, bundle, ways[len(tried) :], lambda: None)
    return tried


def _ask(
    name: DeviceName, bundle: Bundle, ways: Sequence[Way], meanwhile: Callable[[], None]
) -> list[Tried]:
    """What one process answers about some ways: at least about the first. Raises DeviceError if it
    answers nothing."""
    request = Request(
        str(bundle.path), sha256(bundle.manifest_bytes()), name, ways, current_level()
    )
    # edge is found as in this process, installed or not
    script = f"import sys; sys.path[:] = {sys.path!a}\n"
    script += "from edge.commands.self_check.child import main; main()"
    tried: list[Tried] = []
    trying: Way | None = None
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with suppress(BrokenPipeError), process.stdin:  # it may have died already
                process.stdin.write(request_json(request))
            meanwhile()
            for answer in map(json.loads, process.stdout):
                if "trying" in answer:
                    trying = next(way for way in ways if way.name == answer["trying"])
                elif trying is not None and ("right" in answer or "wrong" in answer):
                    tried.append(_answered(trying, answer))
                    trying = None
                else:
                    _pass_on(answer)
        except BaseException:
            process.kill()
            raise
        code = process.wait()
        errors.seek(0)
        how, lasting = _end(code, errors.read())
    if trying is not None:
        tried.append(Tried(trying, how, lasting))
    elif not tried:
        raise DeviceError(f"{bundle.path}: device {name} cannot be checked: its process {how}")
    return tried


def _answered(way: Way, answer: Mapping[str, Any]) -> Tried:
    if "wrong" in answer:
        return Tried(way, answer["wrong"], answer["lasting"], answer["of_bundle"])
    return Tried(way, None)


def _pass_on(answer: Mapping[str, Any]) -> None:
    """A record of its log, or its refusal."""
    if "refused" in answer:
        raise BundleError(answer["refused"])
    level, text = answer["log"]
    logger.log(level, "%s", text)


def _end(code: int, errors: str) -> tuple[str, bool]:
    """How the process ended, and whether it would again."""
    if code == -signal.SIGALRM:
        return "gave no answer in time", False
    if code < 0:
        number = signal.Signals(-code)
        return f"died of {number.name} ({signal.strsignal(number)})", number in _LASTING
    lines = [line for line in errors.splitlines() if line.strip()]
    return f"failed ({lines[-1].strip() if lines else f'exit code {code}'})", True
