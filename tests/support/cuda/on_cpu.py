"""The project's own kernels, compiled by g++ through on_cpu.h and run on host memory."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray

from edge.devices.cuda.kernels.launches import FOLDER, KERNELS, Launch

HEADER = Path(__file__).with_name("on_cpu.h")
_C_TYPES = {"P": ("const void*", ctypes.c_void_p), "i": ("int", ctypes.c_int)}
_C_TYPES["f"] = ("float", ctypes.c_float)


def _wrapper(file: str) -> str:
    """C++ that includes a .cu file and offers `run_KERNEL(grid, block, order, arguments)`."""
    lines = [f'#include "{HEADER}"', f'#include "{FOLDER / file}"']
    lines += [
        "template <class T> struct Given { T value; template <class U> operator U() const"
        " { return (U)value; } };"
    ]
    for kernel, (where, types) in KERNELS.items():
        if where == file:
            given = ", ".join(f"{_C_TYPES[t][0]} a{k}" for k, t in enumerate(types))
            # a pointer goes to whatever pointer the kernel takes, a number only to its own type
            passed = ", ".join(
                f"Given<const void*>{{a{k}}}" if t == "P" else f"a{k}" for k, t in enumerate(types)
            )
            lines.append(
                f'extern "C" int run_{kernel}(unsigned gx, unsigned gy, unsigned bx, unsigned by,'
                f" unsigned order, {given}) {{ return on_cpu::run(gx, gy, bx, by, order,"
                f" [&] {{ {kernel}({passed}); }}); }}"
            )
    return "\n".join(lines) + "\n"


@cache
def _library(file: str, header: str, kernels: str) -> ctypes.CDLL:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed; it runs the kernels on the CPU")
    wrapper = _wrapper(file)
    digest = hashlib.sha256((wrapper + header + kernels).encode()).hexdigest()[:16]
    library = Path(tempfile.gettempdir()) / f"twostream-{file.removesuffix('.cu')}-{digest}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            made = Path(folder) / "made.so"
            options = "-std=c++17 -O3 -march=native -shared -fPIC -U_FORTIFY_SOURCE -Wall -Werror"
            options += " -Wno-unknown-pragmas -x c++ -"
            subprocess.run(
                ["g++", *options.split(), "-o", made], input=wrapper, text=True, check=True
            )
            made.rename(library)
    return ctypes.CDLL(str(library))


def run(launch: Launch, order: int = 0) -> None:
    """Run one launch now. order: see on_cpu.h. Fails where threads do not meet at a barrier."""
    file, types = KERNELS[launch.kernel]
    library = _library(file, HEADER.read_text(), (FOLDER / file).read_text())
    assert len(types) == len(launch.arguments), launch
    arguments = [_C_TYPES[t][1](a) for t, a in zip(types, launch.arguments, strict=True)]
    sizes = (ctypes.c_uint(n) for n in (*launch.grid, *launch.block, order))
    outcome = getattr(library, f"run_{launch.kernel}")(*sizes, *arguments)
    assert outcome == 0, f"{launch.kernel}: some threads ended before a barrier"


class Memory:
    """Host memory in the part of device memory: zeroed, with guard bytes that nothing may touch."""

    GUARD = 4096

    def __init__(self) -> None:
        self._blocks: dict[int, NDArray[np.uint8]] = {}

    def allocate(self, size: int) -> int:
        block = np.full(size + 2 * self.GUARD, 0xA5, np.uint8)
        block[self.GUARD : self.GUARD + size] = 0
        address = block.ctypes.data + self.GUARD
        self._blocks[address] = block
        return address

    def give(self, array: NDArray) -> int:
        address = self.allocate(array.nbytes)
        self.read(address, array.shape, array.dtype)[:] = array
        return address

    def read(self, address: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
        """A view of what lies at an address."""
        block = self._blocks[address]
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        assert self.GUARD * 2 + size <= len(block)
        return block[self.GUARD : self.GUARD + size].view(dtype).reshape(shape)

    def check_guards(self) -> None:
        """Fails where a kernel wrote before or beyond its buffer."""
        for address, block in self._blocks.items():
            ends = np.concatenate([block[: self.GUARD], block[-self.GUARD :]])
            assert (ends == 0xA5).all(), f"a kernel wrote outside the buffer at {address:#x}"
