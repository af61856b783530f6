"""The GPU through pycuda: the only file that imports it. Memory, streams, events, kernels.

The primary context is used, which is the one that TensorRT works in too.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.devices.cuda.kernels.launches import FILES, KERNELS, Launch, source
from edge.devices.tensorrt.key import GPU
from edge.errors import DeviceError
from edge.files import check_private, make_private, user_cache, why, write_atomic

_CUDA_FOLDER = Path("/usr/local/cuda/bin")  # where JetPack has nvcc, mostly not on the PATH
NO_DRIVER = "libcuda.so.1 is not here"


def gpu_fault() -> str | None:
    """Why there is no GPU to be used, NO_DRIVER where nothing speaks of one; None if there is.

    Loads nothing but the driver.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        if Path("/etc/nv_tegra_release").exists():
            return "this is a Jetson, but libcuda.so.1 is not here (containers: --runtime nvidia)"
        return NO_DRIVER
    count = ctypes.c_int(0)
    fault = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if fault:
        return f"NVIDIA's driver is here, but opens no GPU (CUDA error {fault})"
    return None if count.value else "NVIDIA's driver is here, but sees no GPU"


class Pinned:
    """Host memory that the GPU copies from and to, or reaches itself: `array` (bytes,) uint8.

    address: of the same memory for the GPU.
    """

    def __init__(self, cuda: Any, size: int) -> None:
        flags = cuda.host_alloc_flags.DEVICEMAP
        self.array: NDArray[np.uint8] = cuda.pagelocked_empty(size, np.uint8, mem_flags=flags)
        self.address = int(self.array.base.get_device_pointer())  # type: ignore[union-attr]


@cache
def _primary_context(cuda: Any) -> tuple[Any, Any]:
    """The first GPU and its primary context, retained until the process ends: pycuda pushes it once
    more to release it, and does not pop it again."""
    cuda.init()
    device = cuda.Device(0)
    return device, device.retain_primary_context()


@contextmanager
def open_driver() -> Iterator[Driver]:
    """The first GPU, until the end of the block, where what pycuda raises is a DeviceError.

    Raises DeviceError if there is no GPU, no pycuda, or the kernels cannot be compiled.
    """
    fault = gpu_fault()
    if fault is not None:
        raise DeviceError(f"device cuda: {fault}; use --device cpu, and see: twostream doctor")
    try:
        import pycuda.driver as cuda
    except ImportError as error:
        raise DeviceError(
            f"device cuda: pycuda cannot be used ({error}); run: export "
            f'PATH={_CUDA_FOLDER}:$PATH && pip install "twostream-edge[jetson]"'
        ) from None
    try:
        device, context = _primary_context(cuda)
        context.push()
        driver = Driver(cuda, device)
        try:
            driver.load_kernels()
            yield driver
        finally:
            driver.free()
            context.pop()
    except cuda.Error as error:
        raise DeviceError(
            f"device cuda: {error}; stop other programs that use the GPU, and see: twostream doctor"
        ) from None


class Driver:
    """A GPU whose context is current in this thread.

    gpu: its name and kind. integrated: it shares the host's memory (Jetson), so that a copy would
    be for nothing. notes: what did not go as it should, a line each.
    """

    def __init__(self, cuda: Any, device: Any) -> None:
        attribute = cuda.device_attribute
        major, minor = device.compute_capability()
        count = device.get_attribute(attribute.MULTIPROCESSOR_COUNT)
        self.gpu = GPU(device.name(), f"{major}.{minor}", count)
        self.integrated = bool(device.get_attribute(attribute.INTEGRATED))
        self.notes: list[str] = []
        self._cuda = cuda
        self._architecture = f"sm_{major}{minor}"
        self._memory: list[Any] = []
        self._functions: dict[str, Any] = {}

    def settle(self) -> None:
        """Wait until nothing is under way. After a fault of the GPU there is nothing to wait for,
        and the fault itself has been told."""
        try:
            self._cuda.Context.synchronize()
        except self._cuda.Error:
            self.notes.append("the GPU did not come to rest")

    def free(self) -> None:
        """Free everything."""
        self.settle()
        self._functions = {}
        for allocation in self._memory:
            allocation.free()
        self._memory = []

    def allocate(self, size: int) -> int:
        """The address of `size` zeroed bytes on the GPU, there until the driver is closed."""
        try:
            allocation = self._cuda.mem_alloc(size)
        except self._cuda.MemoryError:
            free, total = self._cuda.mem_get_info()
            raise DeviceError(
                f"device cuda: no memory for {size >> 10} KiB more ({free >> 20} of "
                f"{total >> 20} MiB are free); stop other programs"
            ) from None
        self._memory.append(allocation)
        self._cuda.memset_d8(int(allocation), 0, size)
        return int(allocation)

    def place(self, array: NDArray[Any]) -> int:
        """The address of a copy of an array on the GPU, there until the driver is closed."""
        address = self.allocate(array.nbytes)
        self.write(address, array)
        return address

    def write(self, address: int, array: NDArray[Any]) -> None:
        """Copy to the GPU, at once."""
        self._cuda.memcpy_htod(address, np.ascontiguousarray(array))

    def read(self, address: int, out: NDArray[Any]) -> None:
        """Copy from the GPU, at once."""
        self._cuda.memcpy_dtoh(out, address)

    def pinned(self, size: int) -> Pinned:
        return Pinned(self._cuda, size)

    def upload(self, address: int, pinned: NDArray[np.uint8], stream: Any) -> None:
        """Start a copy from pinned memory."""
        self._cuda.memcpy_htod_async(address, pinned, stream)

    def download(self, pinned: NDArray[np.uint8], address: int, stream: Any) -> None:
        """Start a copy to pinned memory."""
        self._cuda.memcpy_dtoh_async(pinned, address, stream)

    def stream(self) -> Any:
        return self._cuda.Stream()

    def event(self) -> Any:
        """Waiting for it leaves the core to others."""
        return self._cuda.Event(self._cuda.event_flags.BLOCKING_SYNC)

    def launch(self, launches: Sequence[Launch], stream: Any) -> None:
        """Start kernels on a stream, one after another."""
        for launch in launches:
            function = self._functions[launch.kernel]
            function.prepared_async_call(launch.grid, (*launch.block, 1), stream, *launch.arguments)

    def free_bytes(self) -> int:
        """Memory that is free on the GPU."""
        return int(self._cuda.mem_get_info()[0])

    def load_kernels(self) -> None:
        """Raises DeviceError if there is no nvcc that can compile them for this GPU."""
        modules = {file: self._load(file) for file in FILES}
        for kernel, (file, types) in KERNELS.items():
            function = modules[file].get_function(kernel)
            function.prepare(types)
            self._functions[kernel] = function

    def _load(self, file: str) -> Any:
        """A file's module, from the user's cache if it is there."""
        digest = hashlib.sha256(source(file).encode()).hexdigest()[:16]
        path = user_cache() / "kernels" / f"{file}-{digest}-{self._architecture}.cubin"
        check_private(path.parent)
        try:
            return self._cuda.module_from_buffer(path.read_bytes())
        except (OSError, self._cuda.Error):  # not there, or damaged
            binary = self._compile(file)
        try:
            module = self._cuda.module_from_buffer(binary)
        except self._cuda.Error as error:
            raise DeviceError(
                f"device cuda: the driver does not take what nvcc made of {file} ({error}); the "
                "CUDA toolkit is newer than the driver, install one that fits it"
            ) from None
        try:
            make_private(path.parent)
            with write_atomic(path) as out:
                out.write(binary)
        except OSError as error:
            self.notes.append(f"kernels are compiled at each start: {path} ({why(error)})")
        return module

    def _compile(self, file: str) -> bytes:
        from pycuda import compiler

        nvcc = _CUDA_FOLDER / "nvcc"
        try:
            return compiler.compile(
                source(file),
                nvcc=str(nvcc) if nvcc.exists() else "nvcc",
                arch=self._architecture,
                no_extern_c=True,
                cache_dir=False,
            )
        except (self._cuda.CompileError, OSError) as error:
            raise DeviceError(
                f"device cuda: nvcc cannot compile {file} for {self._architecture} ({error}); "
                "install the CUDA toolkit: on a Jetson, sudo apt install nvidia-jetpack"
            ) from None
