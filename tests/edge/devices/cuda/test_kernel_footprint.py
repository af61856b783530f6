"""Every kernel compiles for every chip, spills nothing, and fits."""

from __future__ import annotations

import pytest

from edge.devices.cuda.kernels.flow_plan import LINEARISE_BLOCK, STRIPS, TILE
from edge.devices.cuda.kernels.launches import KERNELS
from tests.support.cuda.nvrtc import ARCHITECTURES, compile_kernels

REGISTERS = 65536  # of a multiprocessor, on all of them
SHARED = 48 << 10  # bytes that a block may take without asking


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_compile_and_fit(architecture: int) -> None:
    footprints = {f.kernel: f for f in compile_kernels(architecture)}
    assert set(footprints) == set(KERNELS)
    for footprint in footprints.values():
        assert footprint.spilled == 0, footprint
        assert footprint.shared <= SHARED, footprint
    threads = {"iterate": TILE * STRIPS, "linearise": LINEARISE_BLOCK[0] * LINEARISE_BLOCK[1]}
    for kernel, count in threads.items():
        assert footprints[kernel].registers * count <= REGISTERS
