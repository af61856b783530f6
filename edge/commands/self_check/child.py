"""Tries the ways of a device in a process that may die, of an illegal instruction or by the clock.

    python -c "... main()" < REQUEST   # JSON in, a line of JSON out for each thing that happens

An answer is of one kind: `trying` a way, by its name; `right`, better than all before it; `wrong`,
why it is not to be taken, whether that will be so the next time (`lasting`), and whether the bundle
is at fault (`of_bundle`); `log`, a record of the log; `refused`, why the bundle cannot be checked.
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
from edge.bundle.parity import ParityRun, load_parity, network_inputs
from edge.commands.self_check.parity import check_device, run_alone
from edge.devices import DeviceName, open_way
from edge.devices.inference import Way
from edge.errors import BundleError, TwostreamError
from edge.log import Level, configure

# Bounds, for a small and busy machine; the GPU's engines may have to be built.
OPEN_S = {"cpu": 300, "cuda": 7200}
RUN_S = 120
CLEARLY_FASTER = 0.8  # of the time; less could be another program's doing


@dataclass(frozen=True, slots=True)
class Right:
    """A way that is right, and the time of each stream's network."""

    way: Way
    networks_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class Request:
    """manifest_sha256: of the bundle's. ways: to be tried, in turn. best: the fastest before them
    that is right."""

    bundle: str
    manifest_sha256: str
    device: DeviceName
    ways: Sequence[Way]
    best: Right | None
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
    """Used by choose.py alone."""
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
    best = request.best
    for way in request.ways:
        if best is None or not way.last_resort:
            answers.tell(trying=way.name)
            best = _try(bundle, run, request.device, way, best, answers) or best


def _try(
    bundle: Bundle,
    run: ParityRun,
    name: DeviceName,
    way: Way,
    best: Right | None,
    answers: _Answers,
) -> Right | None:
    """The way, if it is to be taken. The alarm ends this process, also in the midst of a
    library."""
    lasting = name == "cpu"  # a GPU may have had no memory left, just now
    try:
        signal.alarm(OPEN_S[name])
        if best is not None and not _is_clearly_faster(bundle, run, name, way, best):
            fault = f"is not clearly faster than {best.way.name}"
            answers.tell(wrong=fault, lasting=True, of_bundle=False)
            return None
        with closing(open_way(name, bundle, True, way)) as device:
            lasting = True
            signal.alarm(RUN_S)
            checked = check_device(bundle, run, device)
    except TwostreamError as error:
        of_bundle = isinstance(error, BundleError)
        answers.tell(wrong=str(error), lasting=lasting, of_bundle=of_bundle)
        return None
    finally:
        signal.alarm(0)
    answers.tell(right=asdict(checked))
    return Right(way, checked.networks_ms)


def _is_clearly_faster(
    bundle: Bundle, run: ParityRun, name: DeviceName, way: Way, best: Right
) -> bool:
    """Whether a way is worth a whole check, as its first network alone tells. What is found to be
    faster is held against the best way anew: that may have had a busy moment."""
    stream, best_ms = next(iter(best.networks_ms.items()))
    limit_ms = CLEARLY_FASTER * best_ms
    if _alone_ms(bundle, run, name, way, stream) >= limit_ms:
        return False
    again_ms = _alone_ms(bundle, run, name, best.way, stream)
    return _alone_ms(bundle, run, name, way, stream) < CLEARLY_FASTER * again_ms


def _alone_ms(bundle: Bundle, run: ParityRun, name: DeviceName, way: Way, stream: str) -> float:
    streams = {stream: bundle.manifest.streams[stream]}
    alone = Bundle(bundle.path, bundle.manifest.model_copy(update={"streams": streams}))
    with closing(open_way(name, alone, False, way)) as device:
        return run_alone(device, stream, network_inputs(bundle, run, stream))[1]


def request_json(request: Request) -> str:
    return json.dumps(asdict(request))


def _read_request(text: str) -> Request:
    words = json.loads(text)
    best = words["best"]
    if best is not None:
        best = Right(Way(**best["way"]), best["networks_ms"])
    return Request(**words | {"ways": [Way(**way) for way in words["ways"]], "best": best})
