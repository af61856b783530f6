"""The GPU through pycuda: memory, streams and kernels. The only file that imports pycuda.

It uses the GPU's primary context, as TensorRT does, so that both share memory and streams.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.devices.cuda.event import Event
from edge.devices.cuda.graph import Graph, RepeatedWork, Work
from edge.devices.cuda.kernels.launches import FILES, KERNELS, PackedLaunch, source
from edge.devices.cuda.kernels.precompiled import binary_name, load_precompiled
from edge.devices.cuda.libcuda import GPUError, call, library
from edge.devices.tensorrt.key import GPU
from edge.errors import DeviceError
from edge.files import check_private, make_private, user_cache, why, write_atomic
from edge.installation import PYCUDA_NEEDS, install_line

logger = logging.getLogger(__name__)

_CUDA_FOLDER = Path("/usr/local/cuda/bin")  # JetPack installs nvcc here, often not on PATH
NO_DRIVER = "libcuda.so.1 is not here"


def gpu_fault() -> str | None:
    """Why no GPU can be used; None if one can. NO_DRIVER if nothing suggests that there is a GPU.

    Loads only NVIDIA's driver, not pycuda.
    """
    try:
        driver = library()
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

    def release(self) -> None:
        self.array = np.empty(0, np.uint8)


class Memory:
    """Memory of the GPU alone."""

    def __init__(self, cuda: Any, size: int) -> None:
        self._allocation = cuda.mem_alloc(size)
        self.address = int(self._allocation)

    def release(self) -> None:
        self._allocation.free()


class Stream:
    """A CUDA stream. handle, pointer: the driver's own, for TensorRT and for its own calls."""

    def __init__(self, cuda: Any) -> None:
        self.raw = cuda.Stream()
        self.handle = int(self.raw.handle)
        self.pointer = ctypes.c_void_p(self.handle)

    def wait_for_event(self, event: Event) -> None:
        call("cuStreamWaitEvent", self.pointer, event.handle, 0)

    def synchronize(self) -> None:
        self.raw.synchronize()

    def release(self) -> None:
        self.raw = None


@cache
def _primary_context(cuda: Any) -> tuple[Any, Any]:
    """The first GPU and its primary context, kept until the process ends."""
    cuda.init()
    device = cuda.Device(0)
    context = device.retain_primary_context()
    atexit.register(_release_primary_context, context)
    return device, context


def _release_primary_context(context: Any) -> None:
    """pycuda releases a primary context rightly only where it is current, and leaves it current in
    the driver: so it is popped there before."""
    context.push()
    library().cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    context.detach()


def _load_pycuda() -> Any:
    """pycuda.driver. Raises DeviceError if there is no GPU or no pycuda."""
    fault = gpu_fault()
    if fault is not None:
        raise DeviceError(f"device cuda: {fault}; use --device cpu, and see: twostream doctor")
    try:
        import pycuda.driver as cuda
    except ImportError as error:
        raise DeviceError(
            f"device cuda: pycuda cannot be used ({error}); run: sudo apt install {PYCUDA_NEEDS} "
            f"&& export PATH={_CUDA_FOLDER}:$PATH && {install_line('jetson')}"
        ) from None
    return cuda


def find_gpu() -> tuple[GPU, int]:
    """The first GPU, and the driver's version of CUDA, 12060 for 12.6. Raises DeviceError if there
    is none that can be used."""
    cuda = _load_pycuda()
    try:
        device, _ = _primary_context(cuda)
        return _gpu(cuda, device), int(cuda.get_driver_version())
    except cuda.Error as error:
        raise GPUError(str(error)) from None


def _gpu(cuda: Any, device: Any) -> GPU:
    major, minor = device.compute_capability()
    count = device.get_attribute(cuda.device_attribute.MULTIPROCESSOR_COUNT)
    return GPU(device.name(), f"{major}.{minor}", count)


def load_driver(graphs: bool = True) -> Driver:
    """The first GPU, with the kernels compiled. graphs: see Driver.

    Raises DeviceError if there is no GPU, no pycuda, or the kernels cannot be compiled.
    """
    cuda = _load_pycuda()
    try:
        driver = Driver(cuda, *_primary_context(cuda), graphs)
    except cuda.Error as error:
        raise GPUError(str(error)) from None
    try:
        with driver:
            driver.load_kernels()
    except BaseException:
        driver.close()
        raise
    return driver


@contextmanager
def open_driver() -> Iterator[Driver]:
    """`load_driver`, current until the end of the block, and then closed."""
    driver = load_driver()
    try:
        with driver:
            yield driver
    finally:
        driver.close()


class Driver:
    """A GPU, for the thread that opened it. What touches the GPU is done in `with driver:`, which
    makes its context current; between such blocks nothing is, so no thread can end, and no other
    library run, with a context that is not its own. What pycuda raises there is a DeviceError.

    gpu: its name and compute capability. integrated: whether it shares the host's memory (Jetson),
    as its driver says. graphs: whether work that is repeated becomes CUDA graphs. kernels: where
    they come from, in words. closed: nothing of it can be used any more.
    """

    def __init__(self, cuda: Any, device: Any, context: Any, graphs: bool) -> None:
        self.gpu = _gpu(cuda, device)
        self.integrated = bool(device.get_attribute(cuda.device_attribute.INTEGRATED))
        self.graphs = graphs
        self.kernels = ""
        self.closed = False
        self._cuda, self._context = cuda, context
        self._thread = threading.current_thread()
        self._owned: list[Any] = []  # whatever has to be released while the context is current
        self._capability = int(self.gpu.compute_capability.replace(".", ""))
        self._launchers: dict[str, Any] = {}

    def __enter__(self) -> Driver:
        thread = threading.current_thread()
        if thread is not self._thread:
            raise DeviceError(
                f"device cuda: thread {self._thread.name} opened it, thread {thread.name} uses it; "
                "use and close a device in the thread that opened it"
            )
        if self.closed:
            raise DeviceError("device cuda: it is closed; open it again")
        self._context.push()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._cuda.Context.pop()
        if isinstance(error, self._cuda.Error):
            raise GPUError(str(error)) from None

    def synchronize(self) -> None:
        """Wait for all work on the GPU. Does not raise: a CUDA error is also raised where a result
        is waited for."""
        try:
            self._cuda.Context.synchronize()
        except self._cuda.Error:
            logger.debug("the GPU did not finish its work", exc_info=True)

    def close(self) -> None:
        """Free all memory, streams, events and kernels."""
        with self:
            self.synchronize()
            self._launchers = {}
            for owned in self._owned:
                owned.release()
            self._owned = []
            self.closed = True

    def allocate(self, size: int) -> int:
        """The address of `size` zeroed bytes on the GPU, valid until the driver is closed. Raises
        DeviceError if there is not enough memory."""
        try:
            memory = Memory(self._cuda, size)
        except self._cuda.MemoryError:
            free, total = self._cuda.mem_get_info()
            raise DeviceError(
                f"device cuda: no memory for {size >> 10} KiB more ({free >> 20} of "
                f"{total >> 20} MiB are free); stop other programs"
            ) from None
        self._owned.append(memory)
        self._cuda.memset_d8(memory.address, 0, size)
        return memory.address

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
        self._owned.append(Pinned(self._cuda, size))
        return self._owned[-1]  # type: ignore[no-any-return]

    def upload(self, address: int, pinned: NDArray[np.uint8], stream: Stream) -> None:
        """Start a copy from pinned memory."""
        self._cuda.memcpy_htod_async(address, pinned, stream.raw)

    def download(self, pinned: NDArray[np.uint8], address: int, stream: Stream) -> None:
        """Start a copy to pinned memory."""
        self._cuda.memcpy_dtoh_async(pinned, address, stream.raw)

    def stream(self) -> Stream:
        """A new CUDA stream."""
        self._owned.append(Stream(self._cuda))
        return self._owned[-1]  # type: ignore[no-any-return]

    def event(self) -> Event:
        """A new CUDA event."""
        self._owned.append(Event())
        return self._owned[-1]  # type: ignore[no-any-return]

    def repeated_work(self) -> RepeatedWork:
        """Work that becomes a CUDA graph, if `graphs`."""
        self._owned.append(RepeatedWork(self))
        return self._owned[-1]  # type: ignore[no-any-return]

    def capture(self, work: Work, stream: Stream) -> Graph:
        """Make a graph of what `work` enqueues. Raises DeviceError."""
        try:
            return Graph(work, stream)
        except self._cuda.Error as error:
            raise GPUError(str(error)) from None

    def launch(self, launches: Iterable[PackedLaunch], stream: Stream) -> None:
        """Enqueue kernels on a stream, in order."""
        for launch in launches:
            launcher = self._launchers[launch.kernel]
            launcher(launch.grid, launch.block, launch.arguments, 0, stream.raw)

    def free_bytes(self) -> int:
        """Free memory on the GPU, in bytes."""
        return int(self._cuda.mem_get_info()[0])

    def load_kernels(self) -> None:
        """Load all kernels: those of the package, else compiled here. Raises DeviceError if nvcc is
        needed and missing, or cannot compile for this GPU."""
        cuda = self._cuda
        precompiled = load_precompiled(self._capability, cuda.module_from_buffer, cuda.Error)
        if precompiled:
            target, modules = precompiled
            self.kernels = f"the package's kernels for {target}"
        else:
            modules = {file: self._load(file) for file in FILES}
            self.kernels = f"kernels compiled here for {self._architecture}"
        for kernel, (file, _) in KERNELS.items():
            # Not prepared_async_call, which packs the arguments anew for each launch, and makes a
            # second, deprecated call of the driver.
            self._launchers[kernel] = modules[file].get_function(kernel)._launch_kernel

    @property
    def _architecture(self) -> str:
        return f"sm_{self._capability}"

    def _load(self, file: str) -> Any:
        """The module of one source file, from the user's cache or compiled."""
        path = user_cache() / "kernels" / binary_name(file, self._architecture)
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
                "install the wheel of `make dist`, which has compiled kernels, or the CUDA "
                "toolkit: on a Jetson, sudo apt install nvidia-jetpack"
            ) from None
