"""The GPU through pycuda: the only file that imports it. Memory, streams, events, kernels.

The primary context is used, which is the one that TensorRT works in too.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge.engines.prepare import GPU
from edge.errors import DeviceError
from edge.kernels.launches import FILES, KERNELS, Launch, source

_NVCC_FOLDER = "/usr/local/cuda/bin"  # where JetPack puts it, and mostly not on the PATH


def has_gpu() -> bool:
    """Whether an NVIDIA driver is here and sees a GPU. Loads nothing but the driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 < count.value


class Pinned:
    """Host memory that the GPU copies from and to, or reaches itself: `array` (bytes,) uint8.

    address: of the same memory for the GPU.
    """

    def __init__(self, cuda: Any, size: int) -> None:
        flags = cuda.host_alloc_flags.DEVICEMAP
        self.array: NDArray[np.uint8] = cuda.pagelocked_empty(size, np.uint8, mem_flags=flags)
        self.address = int(self.array.base.get_device_pointer())  # type: ignore[union-attr]


class Driver:
    """The first GPU, its context current in this thread until `close`.

    integrated: the GPU shares the host's memory (Jetson), so that a copy would be for nothing.
    Raises DeviceError where there is no GPU, no pycuda, or the kernels cannot be compiled.
    """

    def __init__(self) -> None:
        if not has_gpu():
            raise DeviceError(
                "device cuda: no NVIDIA GPU here (libcuda.so.1 is missing or sees none); "
                "use --device cpu, and see: twostream doctor"
            )
        try:
            import pycuda.driver as cuda
        except ImportError as error:
            raise DeviceError(
                f"device cuda: pycuda cannot be used ({error}); run: export "
                f'PATH={_NVCC_FOLDER}:$PATH && pip install "twostream-edge[jetson]"'
            ) from None
        self._cuda = cuda
        self._memory: list[Any] = []
        try:
            cuda.init()
            device = cuda.Device(0)
            self._context = device.retain_primary_context()
        except cuda.Error as error:
            raise DeviceError(
                f"device cuda: the GPU cannot be opened ({error}); see: twostream doctor"
            ) from None
        major, minor = device.compute_capability()
        self.gpu = GPU(device.name(), f"{major}.{minor}")
        self.integrated = bool(device.get_attribute(cuda.device_attribute.INTEGRATED))
        self._context.push()
        try:
            self._functions = self._compile(f"sm_{major}{minor}")
        except BaseException:
            self._context.pop()
            raise

    def close(self) -> None:
        """Free everything and leave the context; nothing may be under way any more."""
        self._context.synchronize()
        self._functions = {}
        for allocation in self._memory:
            allocation.free()
        self._memory = []
        self._context.pop()

    def allocate(self, size: int) -> int:
        """The address of `size` zeroed bytes on the GPU, there until `close`."""
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
        """The address of a copy of an array on the GPU, there until `close`."""
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
        return self._cuda.Event()

    def launch(self, launches: Sequence[Launch], stream: Any) -> None:
        """Start kernels on a stream, one after another."""
        for launch in launches:
            function = self._functions[launch.kernel]
            function.prepared_async_call(launch.grid, (*launch.block, 1), stream, *launch.arguments)

    def free_bytes(self) -> int:
        """Memory that is free on the GPU."""
        return int(self._cuda.mem_get_info()[0])

    def _compile(self, architecture: str) -> dict[str, Any]:
        """All kernels by name."""
        if _NVCC_FOLDER not in os.environ["PATH"].split(os.pathsep):
            os.environ["PATH"] += os.pathsep + _NVCC_FOLDER
        modules = {file: self._load(file, architecture) for file in FILES}
        functions = {}
        for kernel, (file, types) in KERNELS.items():
            functions[kernel] = modules[file].get_function(kernel)
            functions[kernel].prepare(types)
        return functions

    def _load(self, file: str, architecture: str) -> Any:
        """A file's module; pycuda keeps what nvcc made of it in the user's cache."""
        from pycuda import compiler

        def compiled(cache_dir: Literal[False] | None) -> bytes:
            try:
                return compiler.compile(
                    source(file), arch=architecture, no_extern_c=True, cache_dir=cache_dir
                )
            except (self._cuda.CompileError, OSError) as error:
                raise DeviceError(
                    f"device cuda: nvcc cannot compile {file} for {architecture} ({error}); "
                    "install the CUDA toolkit: on a Jetson, sudo apt install nvidia-jetpack"
                ) from None

        try:
            return self._cuda.module_from_buffer(compiled(None))
        except self._cuda.Error:  # what was kept may be half a file, after a power cut
            return self._cuda.module_from_buffer(compiled(False))
