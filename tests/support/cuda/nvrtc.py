"""NVIDIA's run-time compiler, which needs no GPU: what each kernel takes of a chip."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from edge.devices.cuda.kernels.launches import FILES, source

# Turing, consumer Ampere, Orin, Ada, Hopper, Thor.
ARCHITECTURES = (75, 86, 87, 89, 90, 110)

_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


@dataclass(frozen=True)
class Footprint:
    """registers: a thread; shared, spilled: bytes."""

    kernel: str
    architecture: int
    registers: int
    shared: int
    spilled: int


def compile_kernels(architecture: int) -> list[Footprint]:
    """Compile every kernel for sm_NN. Fails the test with the compiler's own words."""
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
    found = []
    for file in FILES:
        _, program = nvrtc.nvrtcCreateProgram(source(file).encode(), file.encode(), 0, [], [])
        options = [f"--gpu-architecture=sm_{architecture}".encode(), b"--ptxas-options=-v"]
        (outcome,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        log = b" " * size
        nvrtc.nvrtcGetProgramLog(program, log)
        text = log.decode(errors="replace")
        assert outcome == nvrtc.nvrtcResult.NVRTC_SUCCESS, text
        found += _footprints(text, architecture)
        nvrtc.nvrtcDestroyProgram(program)
    return found


def _footprints(log: str, architecture: int) -> list[Footprint]:
    found = []
    for part in log.split("Compiling entry function")[1:]:
        entry = _ENTRY.search(f"Compiling entry function{part}")
        spills, used = _SPILLS.search(part), _USED.search(part)
        assert entry is not None, part
        assert spills is not None, part
        assert used is not None, part
        spilled = int(spills[1]) + int(spills[2])
        shared = int(used[2] or 0)
        found.append(Footprint(entry[1], architecture, int(used[1]), shared, spilled))
    return found
