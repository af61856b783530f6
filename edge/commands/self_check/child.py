"""Tries one way of a device in a process that may die, of an illegal instruction or by the clock.

    python -c "... main()" < REQUEST   # a line of JSON out for each thing that happens

An answer is of one kind: `logits` (N, C) by stream, and `fused` (N, C) of the network of a fusion
or null, of a CPU; `right`, of a GPU; `wrong`, why the way is not to be used, whether that will be
so the next time (`lasting`), and whether the bundle is at fault (`of_bundle`); `log`, a record of
the log.

For a CPU it imports no more than the networks need: half of the time went into the rest.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import resource
import signal
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edge.devices import back_end
from edge.devices.fusion_network import open_stateful, run_sequence
from edge.devices.inference import NetworkFile, Way
from edge.devices.stepped_state import run_samples
from edge.errors import BundleError, TwostreamError

# For a small and busy machine: a check usually takes a second, but a GPU's engines may have to be
# built before.
CHECK_LIMIT_S, BUILD_LIMIT_S = 120, 7200


@dataclass(frozen=True, slots=True)
class CPURequest:
    """files: the networks by stream. fusion: the network of the fusion, if it has one, and its
    inputs (N, S C). times_s: stream times of the N samples. After the request, the inputs of
    `files` follow: (N, channels, H, W) by stream."""

    log_level: int
    way: Way
    files: Mapping[str, NetworkFile]
    fusion: tuple[NetworkFile, NDArray[np.float32]] | None
    times_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GPURequest:
    """manifest_sha256: of the bundle at that path."""

    log_level: int
    way: Way
    bundle: str
    manifest_sha256: str


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
    """Used by trials.py alone, which also writes what is read here."""
    answers = _Answers()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a death here is an answer
    requests = sys.stdin.buffer
    request = pickle.load(requests)
    logging.basicConfig(level=max(request.log_level, logging.WARNING), handlers=[answers])
    logging.getLogger("edge").setLevel(request.log_level)
    # the alarm ends this process, also in the midst of a library
    if isinstance(request, CPURequest):
        signal.alarm(CHECK_LIMIT_S)
        _try_cpu(request, requests, answers)
    else:
        signal.alarm(BUILD_LIMIT_S)
        _try_gpu(request, answers)
    os._exit(0)  # the libraries take a third of a second to clean up


def _try_cpu(request: CPURequest, requests: IO[bytes], answers: _Answers) -> None:
    try:
        networks = {
            stream: back_end().open_network(file, request.way)
            for stream, file in request.files.items()
        }
        fused = None
        if request.fusion is not None:
            file, rows = request.fusion
            fused = run_sequence(open_stateful(file), rows).tolist()
        inputs = pickle.load(requests)
        logits = {
            stream: run_samples(network, request.files[stream], inputs[stream], request.times_s)
            for stream, network in networks.items()
        }
    except TwostreamError as error:
        answers.tell(wrong=str(error), lasting=True, of_bundle=isinstance(error, BundleError))
    else:
        lists = {stream: values.tolist() for stream, values in logits.items()}
        answers.tell(logits=lists, fused=fused)


def _try_gpu(request: GPURequest, answers: _Answers) -> None:
    from edge.bundle.manifest import load_bundle, sha256
    from edge.bundle.parity import load_parity
    from edge.commands.self_check.parity import check_device
    from edge.devices.cuda.device import open_cuda

    lasting = False  # it may have had no memory left, just now
    try:
        bundle = load_bundle(request.bundle)
        if sha256(bundle.manifest_bytes()) != request.manifest_sha256:
            raise BundleError(f"{bundle.path}: was changed just now; start again")

        def built() -> None:
            signal.alarm(CHECK_LIMIT_S)

        with closing(open_cuda(bundle, True, request.way.precision, built=built)) as device:
            lasting = True
            check_device(bundle, load_parity(bundle), device)
    except TwostreamError as error:
        answers.tell(wrong=str(error), lasting=lasting, of_bundle=isinstance(error, BundleError))
    else:
        answers.tell(right=True)
