"""The GPU that tests run the CUDA device on: real pycuda, on a stand-in for NVIDIA's driver that
runs the project's kernels on the CPU, and streams as badly as it may. TensorRT is a double that
computes.

What a GPU would let pass by luck is a fault here: memory is poisoned when it is given out, each
access of a kernel is checked, work waits until the host waits for it, and then the streams take
turns in an order that only events bind. See libcuda/*.cpp.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from edge.devices.cuda import driver
from tests.support.cuda.libcuda import load_libcuda
from tests.support.cuda.ptx.compile import compile_ptx
from tests.support.cuda.ptx.on_standin import PtxHost
from tests.support.tensorrt_surface import Surface

ORDERS = ("first stream first", "last stream first", "shuffled")
CAPABILITY = 87
# What runs: the source as g++ compiles it, or PTX as a release's compilers make it, interpreted.
KERNELS = ("g++", "compute_87", "compute_110")
STAND_IN = "Stand-in"  # the name of the GPU
OWNED = ("device bytes", "page-locked bytes", "streams", "events", "graphs", "modules", "contexts")
# Errors of the driver.
NOT_SUPPORTED, CAPTURE_UNSUPPORTED = 801, 900
OUT_OF_MEMORY, NO_BINARY_FOR_GPU, ILLEGAL_ADDRESS, LAUNCH_FAILED, UNKNOWN = 2, 209, 700, 719, 999
SUCCESS, NO_DEVICE = 0, 100

_gpu_fault = driver.gpu_fault  # before any test has changed it
_host_function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@cache
def _shared_cache(kernels: str) -> Path:
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return Path(folder.name)


class GPU:
    """order: of streams that could go on, see ORDERS. thread_order: of a block's threads and of
    blocks: 0 as numbered, 1 reversed, more: a shuffle each. memory: bytes of it. cache: the user's,
    of compiled kernels; None for one that all tests share. kernels: by which compiler, see KERNELS;
    PTX of compute_NN makes it a GPU of that capability, whose threads have no order."""

    def __init__(
        self,
        order: str = ORDERS[0],
        integrated: bool = True,
        thread_order: int = 0,
        memory: int = 1 << 30,
        cache: Path | None = None,
        kernels: str = KERNELS[0],
    ) -> None:
        self._libcuda = load_libcuda()
        self._settings = (int(integrated), ORDERS.index(order), thread_order)
        self._memory = memory
        self.cache = cache or _shared_cache(kernels)  # for compiled kernels
        self.ptx = None if kernels == KERNELS[0] else int(kernels.removeprefix("compute_"))
        self._ptx_host = None if self.ptx is None else PtxHost(self._libcuda)
        self._jobs: dict[int, Callable[[], None]] = {}
        self._captured: set[int] = set()  # jobs that run again and again
        self._run_job = _host_function(self._run)
        self._error: Exception | None = None
        self._skips = False

    def count(self, what: str) -> int:
        """What is there now: "device bytes", "page-locked bytes", "streams", "events", "graphs",
        "modules", "jobs" that wait in streams, "contexts" current in this thread.

        What there was: "pageable copies", asynchronous ones of memory that is not page-locked, and
        "kernel accesses to host" memory.
        """
        count = int(self._libcuda.standin_count(what.encode()))
        assert count != ctypes.c_size_t(-1).value, what
        return count

    @property
    def left(self) -> dict[str, int]:
        """What is there now and has to be given back; empty: nothing."""
        counts = {kind: self.count(kind) for kind in OWNED}
        return {kind: count for kind, count in counts.items() if count}

    @property
    def fault(self) -> str:
        """What broke the context, in words; "" where nothing did."""
        return str(self._libcuda.standin_fault().decode())

    @property
    def launched(self) -> list[str]:
        """Kernels by name, in order, since `forget_launched`."""
        return str(self._libcuda.standin_launched().decode()).split()

    def forget_launched(self) -> None:
        self._libcuda.standin_forget_launched()

    def set_thread_order(self, order: int) -> None:
        self._libcuda.standin_thread_order(order)

    def skip_kernels(self) -> None:
        """From now on kernels, and TensorRT's double, do nothing when their turn comes."""
        self._skips = True
        self._libcuda.standin_skip_kernels()

    def calls(self, function: str) -> int:
        """How often a function of the driver was called."""
        return int(self._libcuda.standin_calls(function.encode()))

    def call(self, function: str) -> int:
        """Call a function of the driver that takes nothing; its answer."""
        return int(getattr(self._libcuda, function)())

    def is_capturing(self, handle: int) -> bool:
        """Whether the work of a stream is captured now."""
        status = ctypes.c_int()
        self._libcuda.cuStreamIsCapturing(ctypes.c_void_p(handle), ctypes.byref(status))
        return status.value != 0

    def fail(self, function: str, fault: int, after: int = 0) -> None:
        """From its call number `after` on, let a function of the driver answer `fault`; or let a
        kernel break the context with it, when it runs: "kernel NAME"."""
        self._libcuda.standin_fail(function.encode(), ctypes.c_long(after), fault)

    def plug(self) -> None:
        self._plug(1)

    def unplug(self) -> None:
        """Raises what failed in TensorRT's double, and AssertionError where something is left."""
        gc.collect()
        left = self.left
        self._plug(0)
        if self._ptx_host is not None:
            self._ptx_host.close()
        if self._error is not None:
            raise self._error
        assert left == {}, left

    def compile_ptx(self, file: str) -> bytes:
        """One of the package's .cu files for this GPU."""
        assert self.ptx is not None
        self.fail("cuInit", NO_DEVICE)  # NVRTC 13 asks a driver for things that this one has not
        try:
            return compile_ptx(file, self.ptx)
        finally:
            self.fail("cuInit", SUCCESS)

    def _plug(self, plugged: int) -> None:
        memory = ctypes.c_size_t(self._memory)
        self._libcuda.standin_plug(plugged, *self._settings, memory, self.ptx or CAPABILITY)

    def enqueue(self, handle: int, job: Callable[[], None]) -> bool:
        """For TensorRT's double: run a job on a stream, or each time that the graph is launched
        which the stream captures. False where the driver refuses it."""
        key, stream = id(job), ctypes.c_void_p(handle)
        self._jobs[key] = job
        if self.is_capturing(handle):
            self._captured.add(key)
        fault = self._libcuda.cuLaunchHostFunc(stream, self._run_job, ctypes.c_void_p(key))
        return int(fault) == 0

    def access(self, address: int, size: int, write: bool) -> None:
        """For TensorRT's double: before it reads or writes the GPU's memory."""
        arguments = ctypes.c_size_t(address), ctypes.c_size_t(size), int(write)
        why = self._libcuda.standin_access(*arguments).decode()
        assert not why, f"TensorRT {why}"

    def _run(self, key: int) -> None:
        job = self._jobs[key] if key in self._captured else self._jobs.pop(key)
        try:
            if not self._skips:
                job()
        except Exception as error:  # goes on to the test: see `unplug`
            self._error = error
            self._libcuda.standin_break(b"TensorRT's double failed", LAUNCH_FAILED)


def install(patch: pytest.MonkeyPatch, gpu: GPU, tensorrt: str = "10.3.0") -> Surface:
    """Let the GPU be found, with a stand-in for nvcc and TensorRT's double, which is returned."""
    gpu.plug()
    trt = Surface(tensorrt, enqueue=gpu.enqueue, access=gpu.access)
    patch.setitem(sys.modules, "tensorrt", trt)
    patch.setattr(driver, "gpu_fault", _gpu_fault)
    patch.setattr(driver, "_CUDA_FOLDER", Path(__file__).with_name("nvcc"))
    patch.setattr(driver, "user_cache", lambda: gpu.cache)
    if gpu.ptx is not None:
        patch.setattr(driver.Driver, "_compile", lambda _, file: gpu.compile_ptx(file))
    return trt


class Plug:
    """What the fixture `plug` is: GPUs that a test plugs in, one at a time."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self._gpu: GPU | None = None

    def __call__(
        self,
        order: str = ORDERS[0],
        integrated: bool = True,
        thread_order: int = 0,
        memory: int = 1 << 30,
        cache: Path | None = None,
        kernels: str = KERNELS[0],
    ) -> GPU:
        self.unplug()
        self._gpu = GPU(order, integrated, thread_order, memory, cache, kernels)
        self.tensorrt = install(self._patch, self._gpu)
        return self._gpu

    def unplug(self) -> None:
        gpu, self._gpu = self._gpu, None
        if gpu is not None:
            gpu.unplug()
