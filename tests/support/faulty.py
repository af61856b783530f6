"""Devices that are wrong, slow or deadly, in the processes that a run starts, too.

    with_faults(monkeypatch, folder, ways=["illegal", "right"]) a back end of the CPU device
    with_faults(monkeypatch, folder, gpu="garbage")           what TensorRT's double computes

A folder with a sitecustomize.py on PYTHONPATH has every Python that is started do the same.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.devices.inference import NetworkFile, Way
from tests.support.paths import REPOSITORY

_ENV = "TWOSTREAM_TEST_FAULTS"
Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Faults:
    """trials: a file with a line for each network that was opened, in which process, which way; and
    for each that hangs, in how many seconds its process will be ended."""

    trials: Path
    ways: Sequence[str] = ()
    gpu: str | None = None

    def tried(self) -> list[str]:
        """The ways that other processes have opened, in turn."""
        here = str(os.getpid())
        return [way for process, way in self._lines("opens") if process != here]

    def bounds(self) -> list[int]:
        """The seconds that were left to those that hang."""
        return [int(left_s) for _, left_s in self._lines("hangs")]

    def note(self, what: str, value: object) -> None:
        with self.trials.open("a") as trials:
            trials.write(f"{what} {os.getpid()} {value}\n")

    def _lines(self, what: str) -> list[list[str]]:
        text = self.trials.read_text() if self.trials.exists() else ""
        words = [line.split(maxsplit=2) for line in text.splitlines()]
        return [rest for kind, *rest in words if kind == what]


def with_faults(
    patch: pytest.MonkeyPatch, folder: Path, ways: Sequence[str] = (), gpu: str | None = None
) -> Faults:
    folder.mkdir(exist_ok=True)
    faults = Faults(folder / "trials.txt", ways, gpu)
    (folder / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"if {_ENV!r} in os.environ and sys.prefix == {sys.prefix!r}:\n"
        "    from tests.support import faulty\n"
        "    faulty.install_here()\n"
    )
    patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{REPOSITORY}")
    patch.setenv(_ENV, json.dumps({"trials": str(faults.trials), "ways": ways, "gpu": gpu}))
    _install(patch, faults)
    return faults


def install_here() -> None:
    """Called by the sitecustomize.py alone."""
    words = json.loads(os.environ[_ENV])
    patch = pytest.MonkeyPatch()
    if words["gpu"] is not None:
        from tests.support.cuda.gpu import GPU, install

        install(patch, GPU())
    _install(patch, Faults(Path(words["trials"]), words["ways"], words["gpu"]))


def _install(patch: pytest.MonkeyPatch, faults: Faults) -> None:
    if faults.ways:
        patch.setattr("edge.devices.back_end", lambda: _BackEnd(faults))
        # where it was imported by its name
        patch.setattr("edge.commands.self_check.child.back_end", lambda: _BackEnd(faults))
    if faults.gpu is not None:
        from tests.support import tensorrt_engine

        right = tensorrt_engine._cpu_network

        def network(*arguments: Any) -> Any:
            return lambda batch: _act(faults, str(faults.gpu), right(*arguments)(batch))

        patch.setattr(tensorrt_engine, "_cpu_network", network)


def _act(faults: Faults, kind: str, logits: Logits) -> Logits:
    """What a way of that kind makes of the right logits (1, C)."""
    match kind:
        case "illegal":
            signal.raise_signal(signal.SIGILL)
        case "hangs":
            faults.note("hangs", signal.alarm(1))  # sooner than its end would come
            while True:
                time.sleep(0.1)
        case "raises":
            raise RuntimeError("no such kernel")
        case "garbage":
            return np.roll(logits, 1, axis=1) * 3
        case "nan":
            return np.full_like(logits, np.nan)
        case "slow":
            time.sleep(0.03)
        case "prints":
            os.write(1, b"a library says something\n")
    return logits


class _BackEnd:
    """Its ways are of the kinds of `_act`, "right" for instance."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def ways(self, precision: object) -> tuple[Way, ...]:
        return tuple(Way(kind, "int8") for kind in self._faults.ways)

    def open_network(self, file: NetworkFile, way: Way) -> _Network:
        from edge.devices.openvino import LITERAL, compile_network

        self._faults.note("opens", way.name)
        return _Network(compile_network(file, LITERAL), file, way.name, self._faults)

    def describe(self, way: Way) -> str:
        return f"faulty, {way.name}"


class _Network:
    def __init__(self, network: Any, file: NetworkFile, kind: str, faults: Faults) -> None:
        self._network, self._file, self._kind, self._faults = network, file, kind, faults

    def infer(self, batch: NDArray[Any]) -> Logits:
        return _act(self._faults, self._kind, np.array(self._network.infer(batch)))

    def open_request(self) -> _Request:
        return _Request(self, self._file)

    def close(self) -> None:
        self._network.close()


class _Request:
    def __init__(self, network: _Network, file: NetworkFile) -> None:
        self._network, self._batch = network, np.zeros(file.shape, file.dtype)

    @property
    def input(self) -> NDArray[Any]:
        return self._batch[0]

    def start(self) -> None:
        self._logits = self._network.infer(self._batch)[0]

    def wait(self) -> tuple[Logits, float]:
        return self._logits, 0.0
