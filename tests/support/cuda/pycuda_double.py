"""A double of pycuda that runs the project's kernels on the CPU, and streams as badly as it may.

A stream is a queue. Nothing in it runs until the host waits for something, and then the streams
take turns in an order that can be chosen, bound only by events: what is right on a GPU by luck
alone is wrong here. Names and behaviour are those of pycuda 2026.1 (wrap_cudadrv.cpp, driver.py).
"""

from __future__ import annotations

import random
import struct
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray

from edge.devices.cuda.kernels.launches import KERNELS, Launch, source
from tests.support.cuda import on_cpu
from tests.support.tensorrt_surface import Surface

ORDERS = ("first stream first", "last stream first", "shuffled")
Job = Callable[[], None]


class GPU:
    """What is on it and under way. order: see ORDERS. launched: kernels by name, in order."""

    def __init__(self, order: str = ORDERS[0], integrated: bool = True) -> None:
        self.integrated = integrated
        self.memory = on_cpu.Memory()
        self.streams: list[Stream] = []
        self.launched: list[str] = []
        self.allocated = self.pinned = self.events = 0
        self.contexts = 0
        self.cache = tempfile.TemporaryDirectory()  # for compiled kernels
        self.clock = 0
        self._order, self._random = order, random.Random(1)

    def run_until(self, done: Callable[[], bool]) -> None:
        while not done():
            ready = [stream for stream in self.streams if stream.is_ready()]
            assert ready, "the streams wait for each other for ever"
            if self._order == ORDERS[2]:
                stream = self._random.choice(ready)
            else:
                stream = ready[-1 if self._order == ORDERS[1] else 0]
            stream.run_one()

    def drain(self) -> None:
        self.run_until(lambda: not any(stream.jobs for stream in self.streams))

    def enqueue(self, handle: int, job: Job) -> None:
        """For TensorRT's double."""
        self.streams[handle - 1].jobs.append((None, job))


class Stream:
    def __init__(self, gpu: GPU) -> None:
        self.gpu = gpu
        self.jobs: deque[tuple[Callable[[], bool] | None, Job]] = deque()
        gpu.streams.append(self)
        self.handle = len(gpu.streams)

    def is_ready(self) -> bool:
        return bool(self.jobs) and (self.jobs[0][0] is None or self.jobs[0][0]())

    def run_one(self) -> None:
        self.gpu.clock += 1
        self.jobs.popleft()[1]()

    def wait_for_event(self, event: Event) -> None:
        awaited = event.recorded
        self.jobs.append((lambda: event.happened >= awaited, lambda: None))

    def synchronize(self) -> None:
        self.gpu.run_until(lambda: not self.jobs)


class Event:
    def __init__(self, gpu: GPU) -> None:
        self.gpu = gpu
        self.recorded = self.happened = self.at = 0
        gpu.events += 1

    def record(self, stream: Stream) -> None:
        self.recorded += 1
        now = self.recorded

        def happen() -> None:
            self.happened, self.at = now, self.gpu.clock

        stream.jobs.append((None, happen))

    def synchronize(self) -> None:
        awaited = self.recorded
        self.gpu.run_until(lambda: self.happened >= awaited)

    def time_since(self, other: Event) -> float:
        for event in (self, other):
            assert event.recorded > 0, "an event that was never recorded"
            assert event.happened == event.recorded, "not ready"
        return float(self.at - other.at)


class Allocation:
    def __init__(self, gpu: GPU, size: int) -> None:
        self._gpu, self._address = gpu, gpu.memory.allocate(size)
        gpu.allocated += size
        self._size = size

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        self._gpu.allocated -= self._size


class _PageLocked:
    """What `array.base` is in pycuda."""

    def __init__(self, size: int) -> None:
        self._bytes = np.full(size, 0x5A, np.uint8)
        self.__array_interface__ = self._bytes.__array_interface__

    def get_device_pointer(self) -> int:
        return self._bytes.ctypes.data


class Function:
    def __init__(self, gpu: GPU, name: str) -> None:
        self._gpu, self._name, self._format = gpu, name, ""

    def prepare(self, arg_types: str) -> None:
        self._format = arg_types

    def prepared_async_call(
        self, grid: tuple[int, ...], block: tuple[int, ...], stream: Stream, *arguments: Any
    ) -> None:
        struct.pack(self._format, *arguments)  # as pycuda does: numbers of the right kind only
        assert len(block) == 3
        self._gpu.launched.append(self._name)
        launch = Launch(self._name, grid[:2], block[:2], arguments)  # type: ignore[arg-type]
        stream.jobs.append((None, lambda: on_cpu.run(launch)))


class _Context:
    def __init__(self, gpu: GPU) -> None:
        self._gpu = gpu

    def push(self) -> None:
        self._gpu.contexts += 1

    def pop(self) -> None:
        self._gpu.contexts -= 1

    def synchronize(self) -> None:
        self._gpu.drain()


def _driver(gpu: GPU) -> ModuleType:
    class Error(Exception): ...

    class MemoryError_(Error): ...

    class CompileError(Error): ...

    def array_at(address: int, like: NDArray[Any]) -> NDArray[Any]:
        import ctypes

        kind = ctypes.c_uint8 * like.nbytes
        return np.frombuffer(kind.from_address(address), np.uint8)

    def to_gpu(address: int, array: NDArray[Any]) -> None:
        array_at(address, array)[:] = array.reshape(-1).view(np.uint8)

    def from_gpu(array: NDArray[Any], address: int) -> None:
        array.reshape(-1).view(np.uint8)[:] = array_at(address, array)

    def pagelocked_empty(shape: int, dtype: DTypeLike, mem_flags: int = 0) -> NDArray[Any]:
        gpu.pinned += shape
        return np.asarray(_PageLocked(shape), dtype)

    def synchronously(copy: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: Any) -> None:
            gpu.drain()
            copy(*arguments)

        return run

    def later(copy: Callable[..., None]) -> Callable[..., None]:
        def run(target: Any, origin: Any, stream: Stream) -> None:
            stream.jobs.append((None, lambda: copy(target, origin)))

        return run

    device = SimpleNamespace(
        name=lambda: "Double",
        compute_capability=lambda: (8, 7),
        get_attribute={"integrated": int(gpu.integrated), "multiprocessors": 8}.__getitem__,
        retain_primary_context=lambda: _Context(gpu),
    )
    module = ModuleType("pycuda.driver")
    vars(module).update(
        Error=Error,
        MemoryError=MemoryError_,
        CompileError=CompileError,
        init=lambda: None,
        Device=lambda index: device,
        Context=_Context(gpu),
        device_attribute=SimpleNamespace(
            INTEGRATED="integrated", MULTIPROCESSOR_COUNT="multiprocessors"
        ),
        event_flags=SimpleNamespace(BLOCKING_SYNC=1),
        host_alloc_flags=SimpleNamespace(DEVICEMAP=2),
        mem_alloc=lambda size: Allocation(gpu, size),
        mem_get_info=lambda: ((1 << 30) - gpu.allocated, 1 << 30),
        memset_d8=lambda address, value, size: None,  # our memory is zeroed
        memcpy_htod=synchronously(to_gpu),
        memcpy_dtoh=synchronously(from_gpu),
        memcpy_htod_async=later(to_gpu),
        memcpy_dtoh_async=later(from_gpu),
        pagelocked_empty=pagelocked_empty,
        Stream=lambda: Stream(gpu),
        Event=lambda flags: Event(gpu),
        module_from_buffer=lambda name: SimpleNamespace(
            get_function=lambda kernel: Function(gpu, kernel)
        ),
    )
    return module


def _compile(text: str, nvcc: str, arch: str, no_extern_c: bool, cache_dir: bool) -> bytes:
    (file,) = {file for file, _ in KERNELS.values() if source(file) == text}
    assert no_extern_c
    assert not cache_dir
    return f"{file} for {arch}".encode()


def install(patch: pytest.MonkeyPatch, gpu: GPU, tensorrt: str = "10.3.0") -> Surface:
    """Let `pycuda` and `tensorrt` be doubles, and a GPU be found. Returns TensorRT's."""
    package, compiler = ModuleType("pycuda"), ModuleType("pycuda.compiler")
    compiler.compile = _compile  # type: ignore[attr-defined]
    package.driver, package.compiler = _driver(gpu), compiler  # type: ignore[attr-defined]
    trt = Surface(tensorrt, enqueue=gpu.enqueue)
    for name, module in {
        "pycuda": package,
        "pycuda.driver": package.driver,
        "pycuda.compiler": compiler,
        "tensorrt": trt,
    }.items():
        patch.setitem(sys.modules, name, module)
    patch.setattr("edge.devices.cuda.driver.gpu_fault", lambda: None)
    patch.setattr("edge.devices.cuda.driver.user_cache", lambda: Path(gpu.cache.name))
    return trt
