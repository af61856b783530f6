"""Kernels on a GPU, a real one or the stand-in's, and what they leave there."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edge.devices.cuda.driver import Driver
from edge.devices.cuda.kernels.device_plan import FLOW_PLACE
from edge.devices.cuda.kernels.flow_plan import FlowPlan, allocate_luma
from edge.devices.cuda.kernels.launches import Launch, pack
from edge.motion.spec import TVL1Spec


def run(driver: Driver, launches: Iterable[Launch]) -> None:
    """Run kernels one after another, and wait."""
    stream = driver.stream()
    driver.launch(pack(launches), stream)
    stream.synchronize()


def read(driver: Driver, address: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    """A copy of what lies at an address."""
    out = np.empty(shape, dtype)
    driver.read(address, out)
    return out


def place(driver: Driver, scale: float, slot: int) -> int:
    """The address of a FLOW_PLACE."""
    return driver.place(np.frombuffer(FLOW_PLACE.pack(scale, slot), np.uint8))


def quantise_values(driver: Driver, flow: int, scale: float, count: int, out: int) -> Launch:
    """`count` values at the address `flow` become bytes at the address `out`, by one block of whole
    warps, so that some of its threads have nothing to do."""
    arguments = (flow, place(driver, scale, 0), count, out)
    return Launch("quantise", (1, 1), (32 * (count // 32 + 1), 1), arguments)


def flow_on_gpu(
    driver: Driver, spec: TVL1Spec, first: NDArray[np.uint8], second: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """TV-L1 between two pictures (H, W): (2, H, W), px."""
    luma = allocate_luma(first.shape, driver.allocate)
    plan = FlowPlan(spec, first.shape, luma, driver.allocate)
    for slot, plane in enumerate((first, second)):
        driver.write(luma[slot], plane.astype(np.float32))
    run(driver, [*plan.pyramids[0], *plan.pyramids[1], *plan.flows[1]])
    return read(driver, plan.flow, (2, *first.shape), np.float32)
