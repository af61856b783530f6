"""Tries the ways of a device in a process that may die, of an illegal instruction or by the clock.

    python -c "... main()" < REQUEST   # JSON in, a line of JSON out for each thing that happens

An answer is of one kind: `trying` a way, by its name; `right`, true: it is, and the last one; `wrong`,
why it is not right, whether that will be so the next time (`lasting`), and whether the
bundle is at fault (`of_bundle`); `log`, a record of the log; `refused`, why the bundle cannot be
checked.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from edge.bundle.manifest import Bundle, load_bundle, sha256
from edge.bundle.parity import ParityRun, load_parity
from edge.commands.self_check.parity import check_device, check_networks
from edge.devices import DeviceName, open_cpu_networks, open_way
from edge.devices.inference import Way
from edge.errors import BundleError, TwostreamError
from edge.log import Level, configure

# For a small and busy machine, which takes longer than the second or two that a way usually takes;
# a GPU's engines may have to be built.
LIMITS_S = {"cpu": 120, "cuda": 7200}


@dataclass(frozen=True, slots=True)
class Request:
    """manifest_sha256: of the bundle's. ways: to be tried, in turn, until one is right."""

    bundle: str
    manifest_sha256: str
    device: DeviceName
    ways: Sequence[Way]
    log_level: Level


class _Answers(logging.Handler):
    """The pipe to the parent. What libraries print goes to the standard error instead."""

    def __init__(self) -> None:
        super().__init__()
        self._pipe = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def tell(self, **answer: Any) -> None:
        self._pipe.write(json.dumps(answer) + "\n")
        self._pipe.flush()

    def emit(self, record: logging.LogRecord) -> None:
        self.tell(log=[record.levelno, record.getMessage()])


def main() -> None:
    """Used by trials.py alone."""
    answers = _Answers()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a death here is an answer
    request = _read_request(sys.stdin.read())
    configure(request.log_level)
    logging.getLogger().handlers = [answers]
    try:
        bundle = load_bundle(request.bundle)
        if sha256(bundle.manifest_bytes()) != request.manifest_sha256:
            raise BundleError(f"{bundle.path}: was changed just now; start again")
        for name in bundle.manifest.files:
            bundle.read(name)
        run = load_parity(bundle)
    except TwostreamError as error:
        answers.tell(refused=str(error))
        return
    for way in request.ways:
        answers.tell(trying=way.name)
        if _is_right(bundle, run, request.device, way, answers):
            break
    os._exit(0)  # the libraries take a third of a second to clean up


def _is_right(
    bundle: Bundle, run: ParityRun, name: DeviceName, way: Way, answers: _Answers
) -> bool:
    """The alarm ends this process, also in the midst of a library."""
    lasting = name == "cpu"  # a GPU may have had no memory left, just now
    signal.alarm(LIMITS_S[name])
    try:
        if name == "cpu":
            networks = open_cpu_networks(bundle, way)
            check_networks(
                bundle, run, way.precision or "int8", lambda s, x: networks[s].infer(x[None])[0]
            )
        else:
            with closing(open_way(name, bundle, True, way)) as device:
                lasting = True
                check_device(bundle, run, device)
    except TwostreamError as error:
        of_bundle = isinstance(error, BundleError)
        answers.tell(wrong=str(error), lasting=lasting, of_bundle=of_bundle)
        return False
    finally:
        signal.alarm(0)
    answers.tell(right=True)
    return True


def request_json(request: Request) -> str:
    return json.dumps(asdict(request))


def _read_request(text: str) -> Request:
    words = json.loads(text)
    return Request(**words | {"ways": [Way(**way) for way in words["ways"]]})
