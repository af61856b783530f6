"""The PTX of this project's kernels, by the compilers of a release."""

from __future__ import annotations

from functools import cache

import pytest

from edge.devices.cuda.kernels.release import TARGETS, Compiler, ReleaseError


@cache
def _compiler(cuda: int) -> Compiler:
    return Compiler(cuda)


def compile_ptx(file: str, capability: int) -> bytes:
    """Of a .cu file, with its closing zero, by the version of CUDA that a release uses for this
    chip. Skips the test where that is not installed.

    A cubin for sm_NN is made from this PTX.
    """
    (cuda,) = (cuda for cuda, targets in TARGETS.items() if f"sm_{capability}" in targets)
    try:
        compiler = _compiler(cuda)
    except ReleaseError as fault:
        pytest.skip(str(fault))
    return compiler.compile(file, f"compute_{capability}")
