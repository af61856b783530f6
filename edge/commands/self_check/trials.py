"""Has one way of a device after another tried by another process, which may die of it."""

from __future__ import annotations

import json
import logging
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Bundle, sha256
from edge.bundle.parity import load_parity
from edge.commands.self_check.child import CPURequest, GPURequest
from edge.commands.self_check.parity import (
    check_fusion,
    check_motion,
    check_scores,
    checked_inputs,
)
from edge.devices import DeviceName
from edge.devices.cpu import network_files
from edge.devices.fusion_network import fusion_file, parity_inputs
from edge.devices.inference import Way
from edge.errors import DeviceError

logger = logging.getLogger(__name__)

# What a fault of a processor's kernels ends a process with. SIGKILL, where memory is short, says
# nothing of the next time.
_LASTING = (signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGABRT)

Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tried:
    """fault: why it is not right, or None: it is. lasting: that will be so the next time, or it
    costs too much to find out. of_bundle: the bundle is at fault. hung: it gave no answer in time.
    """

    way: Way
    fault: str | None
    lasting: bool = True
    of_bundle: bool = False
    hung: bool = False


def try_ways(name: DeviceName, bundle: Bundle, ways: Sequence[Way]) -> list[Tried]:
    """Those that were tried, in turn; the last is right, or none is.

    Raises DeviceError if what does not depend on the way is wrong, BundleError if the bundle cannot
    be read.
    """
    try_way = _trial_of_cpu(bundle) if name == "cpu" else _trial_of_gpu(bundle)
    tried: list[Tried] = []
    for way in ways:
        tried.append(try_way(way))
        if tried[-1].fault is None:
            break
    return tried


def _trial_of_cpu(bundle: Bundle) -> Callable[[Way], Tried]:
    """The networks alone may kill a process; flow and inputs are checked in this one, while the
    networks are compiled in the other. They take kernels that this process loads anyway."""
    run, files, file = load_parity(bundle), network_files(bundle), fusion_file(bundle)
    fusion = None if file is None else (file, parity_inputs(bundle, run))
    inputs: dict[str, NDArray[Any]] = {}

    def build_inputs() -> dict[str, NDArray[Any]]:
        if not inputs:
            check_motion(bundle, run)
            inputs.update(checked_inputs(bundle, run))
        return inputs

    def try_way(way: Way) -> Tried:
        answer = _ask(CPURequest(_log_level(), way, files, fusion, run.times_s), build_inputs)
        if "logits" not in answer:
            return _wrong(way, answer)
        logits = {key: np.array(rows, np.float32) for key, rows in answer["logits"].items()}
        try:
            check_scores(bundle, run, dict.fromkeys(files, way.precision or "int8"), logits)
            if fusion is not None:
                check_fusion(run, np.array(answer["fused"], np.float32))
        except DeviceError as error:
            return Tried(way, str(error))
        return Tried(way, None)

    return try_way


def _trial_of_gpu(bundle: Bundle) -> Callable[[Way], Tried]:
    """The whole device, for its kernels are on trial, too."""
    digest = sha256(bundle.manifest_bytes())

    def try_way(way: Way) -> Tried:
        answer = _ask(GPURequest(_log_level(), way, str(bundle.path), digest))
        return Tried(way, None) if "right" in answer else _wrong(way, answer)

    return try_way


def _wrong(way: Way, answer: Answer) -> Tried:
    hung = answer.get("hung", False)
    return Tried(way, answer["wrong"], answer["lasting"], answer["of_bundle"], hung)


def _log_level() -> int:
    return logging.getLogger("edge").getEffectiveLevel()


def _ask(request: CPURequest | GPURequest, more: Callable[[], object] | None = None) -> Answer:
    """What a process answers, or what it died of. more: gives what it is sent after the request."""
    # edge is found as in this process, installed or not
    script = f"import sys; sys.path[:] = {sys.path!a}\n"
    script += "from edge.commands.self_check.child import main; main()"
    answer: Answer | None = None
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with suppress(BrokenPipeError), process.stdin as requests:  # it may have died already
                pickle.dump(request, requests)
                requests.flush()
                if more is not None:
                    pickle.dump(more(), requests)
            for said in map(json.loads, process.stdout):
                if "log" in said:
                    logger.log(said["log"][0], "%s", said["log"][1])
                else:
                    answer = said
        except BaseException:
            process.kill()
            raise
        code = process.wait()
        errors.seek(0)
        return answer or _death(code, errors.read())


def _death(code: int, errors: str) -> Answer:
    """How the process ended without an answer, as one."""
    if code == -signal.SIGALRM:
        how = "gave no answer in time"
        return {"wrong": how, "lasting": True, "of_bundle": False, "hung": True}
    if code < 0:
        number = signal.Signals(-code)
        how, lasting = f"died of {number.name} ({signal.strsignal(number)})", number in _LASTING
    else:
        lines = [line for line in errors.splitlines() if line.strip()]
        how, lasting = f"failed ({lines[-1].strip() if lines else f'exit code {code}'})", True
    return {"wrong": how, "lasting": lasting, "of_bundle": False}
