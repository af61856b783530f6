"""Freed memory stays with the process: large tensors cost their pages once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.paths import REPOSITORY

_PROGRAM = """
import resource
import torch
from train.models.malloc import keep_freed_memory
{call}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 << 20)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first = faults()
print(first, min(faults() for _ in range(20)))
"""


def page_faults(call: str) -> list[int]:
    """Of the first 64 MiB, and the fewest of any later time."""
    program = _PROGRAM.format(call=call)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    return [int(word) for word in done.stdout.split()]


@pytest.mark.slow
def test_the_memory_of_a_freed_tensor_is_kept() -> None:
    first, later = page_faults("keep_freed_memory()")
    assert later < first / 20
    first, later = page_faults("")
    assert later > first / 2  # what it is for
