"""What the device needs of the driver: zeroed memory, times, mapped memory, blocks of a context."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest

from edge.devices.cuda.driver import Driver, open_driver
from edge.devices.cuda.kernels.launches import Launch, pack
from edge.errors import DeviceError
from tests.support.cuda.gpu import GPU, OUT_OF_MEMORY, Plug
from tests.support.cuda.on_gpu import quantise_values, read, run


@pytest.mark.slow
def test_new_memory_is_zeroed(plug: Plug) -> None:
    plug()
    with open_driver() as driver:
        assert not read(driver, driver.allocate(100), (100,), np.uint8).any()


@pytest.mark.parametrize("integrated", [True, False])
def test_the_kind_of_gpu_is_its_own(integrated: bool, plug: Plug) -> None:
    plug(integrated=integrated)
    with open_driver() as driver:
        assert driver.integrated == integrated
        assert (driver.gpu.name, driver.gpu.compute_capability) == ("Stand-in", "8.7")
        assert driver.gpu.multiprocessors == 8


def test_times_are_measured_between_events(plug: Plug) -> None:
    plug()
    with open_driver() as driver:
        stream, begin, end = driver.stream(), driver.event(), driver.event()
        begin.record(stream)
        end.record(stream)
        end.synchronize()
        assert end.time_since(begin) > 0


def test_kernels_reach_pinned_memory(plug: Plug) -> None:
    gpu = plug()
    with open_driver() as driver:
        pinned, out = driver.pinned(4 * 8), driver.allocate(8)
        pinned.array.view(np.float32)[:] = np.arange(8)
        run(driver, [quantise_values(driver, pinned.address, 10.0, 8, out)])
        levels = read(driver, out, (8,), np.uint8)
    assert levels.tolist() == [128, 138, 148, 158, 168, 178, 188, 198]
    assert gpu.count("kernel accesses to host") > 0


def test_copies_wait_for_their_stream(plug: Plug) -> None:
    """Pinned memory that is changed before a copy has run changes what is copied."""
    gpu = plug()
    with open_driver() as driver:
        source, target = driver.pinned(16), driver.pinned(16)
        address, stream = driver.allocate(16), driver.stream()
        source.array[:] = 1
        driver.upload(address, source.array, stream)
        driver.download(target.array, address, stream)
        source.array[:] = 2
        assert (target.array == 0xAB).all()  # poison: nothing has run yet
        stream.synchronize()
        assert (target.array == 2).all()
    assert gpu.count("pageable copies") == 0


def test_a_context_is_current_in_a_block_alone(plug: Plug) -> None:
    gpu = plug()
    with open_driver() as driver:
        assert gpu.count("contexts") == 1
        with driver:
            assert gpu.count("contexts") == 1  # pycuda keeps the others on a stack of its own
        assert gpu.count("contexts") == 1
    assert gpu.count("contexts") == 0


def test_all_is_given_back_though_others_hold_it(plug: Plug) -> None:
    gpu = plug()
    with open_driver() as driver:
        held = [driver.stream(), driver.event(), driver.pinned(64)]
        driver.allocate(64)
        assert {"streams", "events", "page-locked bytes", "device bytes"} <= set(gpu.left)
    assert gpu.left == {}
    assert len(held) == 3


@pytest.mark.slow
def test_too_little_memory_is_told(plug: Plug) -> None:
    plug(memory=10 << 20)
    with open_driver() as driver:
        driver.allocate(4 << 20)
        with pytest.raises(
            DeviceError, match=r"no memory for 7168 KiB more \(6 of 10 MiB are free"
        ):
            driver.allocate(7 << 20)


def test_a_launch_is_one_call_with_arguments_packed_once(plug: Plug) -> None:
    gpu = plug()
    with open_driver() as driver:
        flow, out, stream = driver.allocate(32), driver.allocate(8), driver.stream()
        packed = pack([quantise_values(driver, flow, 1.0, 8, out)])
        for _ in range(5):
            driver.launch(packed, stream)
        stream.synchronize()
    assert gpu.calls("cuLaunchKernel") == 5
    assert gpu.calls("cuFuncSetBlockShape") == 0


def test_arguments_of_another_kind_are_refused() -> None:
    with pytest.raises(struct.error):
        pack([Launch("quantise", (1, 1), (8, 1), (0, 0, 8.5, 0))])
    with pytest.raises(struct.error):
        pack([Launch("quantise", (1, 1), (8, 1), (0, 0, 8))])


# What the stand-in refuses, as a GPU would or should ----------------------------------------------


def beyond(driver: Driver) -> Launch:
    """Reads one float beyond its buffer."""
    return quantise_values(driver, driver.allocate(32), 1.0, 9, driver.allocate(9))


def nowhere(driver: Driver) -> Launch:
    return quantise_values(driver, 0, 1.0, 8, driver.allocate(8))


def unwritten(driver: Driver) -> Launch:
    import pycuda.driver as cuda

    raw = cuda.mem_alloc(32)
    driver._owned.append(type("Raw", (), {"release": lambda self: raw.free()})())
    return quantise_values(driver, int(raw), 1.0, 8, driver.allocate(8))


def misaligned(driver: Driver) -> Launch:
    address = driver.allocate(64) + 2
    return quantise_values(driver, address, 1.0, 8, driver.allocate(8))


@pytest.mark.parametrize(
    ("launch", "why"),
    [
        (beyond, "reads 4 bytes 0 bytes beyond a buffer of 32"),
        (nowhere, "reads 4 bytes in memory that the GPU does not have"),
        (unwritten, "reads 4 bytes that nothing has written"),
        (misaligned, "an address that is no multiple of 4"),
    ],
)
def test_what_a_kernel_must_not_do_is_found(
    launch: Callable[[Driver], Launch], why: str, plug: Plug
) -> None:
    gpu: GPU = plug()
    with pytest.raises(DeviceError, match="illegal memory access"), open_driver() as driver:
        run(driver, [launch(driver)])
    assert why in gpu.fault


def test_failures_come_on_demand(plug: Plug) -> None:
    gpu = plug()
    gpu.fail("cuStreamCreate", OUT_OF_MEMORY, after=1)
    with open_driver() as driver:
        driver.stream()
        with pytest.raises(cuda_error(), match="cuStreamCreate failed: out of memory"):
            driver.stream()
    assert gpu.left == {}


def cuda_error() -> type[Exception]:
    import pycuda.driver as cuda

    return cuda.Error
