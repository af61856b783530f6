"""The GPU through pycuda: memory, streams, events and kernels. The only file that imports pycuda.

It uses the GPU's primary context, as TensorRT does, so that both share memory and streams.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
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

logger = logging.getLogger(__name__)

_CUDA_FOLDER = Path("/usr/local/cuda/bin")  # JetPack installs nvcc here, often not on PATH
NO_DRIVER = "libcuda.so.1 is not here"


def gpu_fault() -> str | None:
    """Why no GPU can be used; None if one can. NO_DRIVER if nothing suggests that there is a GPU.

    Loads only NVIDIA's driver, not pycuda.
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
    """Pinned host memory: `array` (bytes,) uint8. address: of the same memory on the GPU, which may
    read it without a copy."""

    def __init__(self, cuda: Any, size: int) -> None:
        flags = cuda.host_alloc_flags.DEVICEMAP
        self.array: NDArray[np.uint8] = cuda.pagelocked_empty(size, np.uint8, mem_flags=flags)
        self.address = int(self.array.base.get_device_pointer())  # type: ignore[union-attr]


@cache
def _primary_context(cuda: Any) -> tuple[Any, Any]:
    """The first GPU and its primary context, kept until the process ends: to release it, pycuda
    would push it once more without popping it."""
    cuda.init()
    device = cuda.Device(0)
    return device, device.retain_primary_context()


@contextmanager
def open_driver() -> Iterator[Driver]:
    """Use the first GPU within the block; CUDA errors in it become DeviceErrors.

    Raises DeviceError if there is no GPU or no pycuda, or if the kernels cannot be compiled.
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

    gpu: its name and compute capability. integrated: whether it shares the host's memory (Jetson),
    so that frames need no upload.
    """

    def __init__(self, cuda: Any, device: Any) -> None:
        attribute = cuda.device_attribute
        major, minor = device.compute_capability()
        count = device.get_attribute(attribute.MULTIPROCESSOR_COUNT)
        self.gpu = GPU(device.name(), f"{major}.{minor}", count)
        self.integrated = bool(device.get_attribute(attribute.INTEGRATED))
        self._cuda = cuda
        self._architecture = f"sm_{major}{minor}"
        self._memory: list[Any] = []
        self._functions: dict[str, Any] = {}

    def synchronize(self) -> None:
        """Wait for all work on the GPU. Does not raise: a CUDA error is also raised where a result
        is waited for."""
        try:
            self._cuda.Context.synchronize()
        except self._cuda.Error:
            logger.debug("the GPU did not finish its work", exc_info=True)

    def free(self) -> None:
        """Free all memory and kernels."""
        self.synchronize()
        self._functions = {}
        for allocation in self._memory:
            allocation.free()
        self._memory = []

    def allocate(self, size: int) -> int:
        """The address of `size` zeroed bytes on the GPU, valid until the driver is closed. Raises
        DeviceError if there is not enough memory."""
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
        """The address of a copy of an array on the GPU, valid until the driver is closed."""
        address = self.allocate(array.nbytes)
        self.write(address, array)
        return address

    def write(self, address: int, array: NDArray[Any]) -> None:
        """Copy to the GPU and wait."""
        self._cuda.memcpy_htod(address, np.ascontiguousarray(array))

    def read(self, address: int, out: NDArray[Any]) -> None:
        """Copy from the GPU and wait."""
        self._cuda.memcpy_dtoh(out, address)

    def pinned(self, size: int) -> Pinned:
        """Allocate `size` bytes of pinned memory."""
        return Pinned(self._cuda, size)

    def upload(self, address: int, pinned: NDArray[np.uint8], stream: Any) -> None:
        """Start a copy from pinned memory."""
        self._cuda.memcpy_htod_async(address, pinned, stream)

    def download(self, pinned: NDArray[np.uint8], address: int, stream: Any) -> None:
        """Start a copy to pinned memory."""
        self._cuda.memcpy_dtoh_async(pinned, address, stream)

    def stream(self) -> Any:
        """A new CUDA stream."""
        return self._cuda.Stream()

    def event(self) -> Any:
        """A new CUDA event. A thread that waits for it sleeps instead of spinning."""
        return self._cuda.Event(self._cuda.event_flags.BLOCKING_SYNC)

    def launch(self, launches: Sequence[Launch], stream: Any) -> None:
        """Enqueue kernels on a stream, in order."""
        for launch in launches:
            function = self._functions[launch.kernel]
            function.prepared_async_call(launch.grid, (*launch.block, 1), stream, *launch.arguments)

    def free_bytes(self) -> int:
        """Free memory on the GPU, in bytes."""
        return int(self._cuda.mem_get_info()[0])

    def load_kernels(self) -> None:
        """Load all kernels, compiled before or now. Raises DeviceError if nvcc is missing or cannot
        compile for this GPU."""
        modules = {file: self._load(file) for file in FILES}
        for kernel, (file, types) in KERNELS.items():
            function = modules[file].get_function(kernel)
            function.prepare(types)
            self._functions[kernel] = function

    def _load(self, file: str) -> Any:
        """The module of one source file, from the user's cache or compiled."""
        digest = hashlib.sha256(source(file).encode()).hexdigest()[:16]
        path = user_cache() / "kernels" / f"{file}-{digest}-{self._architecture}.cubin"
        check_private(path.parent)
        try:
            return self._cuda.module_from_buffer(path.read_bytes())
        except (OSError, self._cuda.Error):  # missing or damaged
            binary = self._compile(file)
        try:
            module = self._cuda.module_from_buffer(binary)
        except self._cuda.Error as error:
            raise DeviceError(
                f"device cuda: the driver cannot load {file} as nvcc compiled it ({error}); the "
                "CUDA toolkit is newer than the driver, install a matching one"
            ) from None
        try:
            make_private(path.parent)
            with write_atomic(path) as out:
                out.write(binary)
        except OSError as error:
            logger.warning(
                "kernels are compiled again at each start: %s cannot be written (%s)",
                path,
                why(error),
            )
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
