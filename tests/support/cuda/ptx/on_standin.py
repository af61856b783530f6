"""Lets the stand-in for libcuda.so.1 load PTX, and run it in the interpreter, on its own memory."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

import numpy as np

from tests.support.cuda.ptx.machine import KernelFault, Launch, Machine
from tests.support.cuda.ptx.memory import Memory
from tests.support.cuda.ptx.parser import PtxError, parse
from tests.support.cuda.ptx.program import Program

ARENA = 64 << 30  # bytes, as in libcuda/gpu.h
ILLEGAL_ADDRESS, LAUNCH_FAILED = 700, 719  # errors of the driver

_load = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p)
_parameter_bytes = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_int, ctypes.c_char_p)
_run = ctypes.CFUNCTYPE(
    None, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint), ctypes.c_void_p
)


def _bytes_at(address: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_uint8 * ARENA).from_address(address))


@cache
def _programs(text: str) -> dict[str, Program]:
    """By kernel."""
    return {name: Program(kernel) for name, kernel in parse(text).kernels.items()}


class PtxHost:
    """Behind the stand-in until it is closed. Why PTX is not loaded is printed, as the stand-in
    prints its own faults."""

    def __init__(self, libcuda: ctypes.CDLL) -> None:
        self._libcuda = libcuda
        self._programs: list[dict[str, Program]] = []  # by module, then by kernel
        arena = ctypes.c_size_t.in_dll(libcuda, "arena").value
        states = ctypes.c_size_t.in_dll(libcuda, "states").value
        self._machine = Machine(Memory(arena, _bytes_at(arena), _bytes_at(states)))
        self._calls = (_load(self._load), _parameter_bytes(self._parameter_bytes), _run(self._run))
        libcuda.standin_ptx(*self._calls)

    def close(self) -> None:
        self._libcuda.standin_ptx(None, None, None)

    def _load(self, text: bytes) -> int:
        try:
            self._programs.append(_programs(text.decode()))
        except PtxError as error:
            print(f"stand-in for libcuda: PTX: {error}", file=sys.stderr)
            return -1
        return len(self._programs) - 1

    def _parameter_bytes(self, module: int, name: bytes) -> int:
        program = self._programs[module].get(name.decode())
        return -1 if program is None else program.kernel.parameter_bytes

    def _run(self, module: int, name: bytes, size: ctypes.Array, parameters: int) -> None:
        program = self._programs[module][name.decode()]
        grid, block = (size[0], size[1]), (size[2], size[3])
        try:
            data = ctypes.string_at(parameters, program.kernel.parameter_bytes)
            self._machine.run(Launch(program, grid, block, data))
        except KernelFault as fault:
            self._libcuda.standin_break(str(fault).encode(), ILLEGAL_ADDRESS)
        except Exception as error:  # which ctypes would drop
            why = f"the interpreter of PTX failed: {error!r}"
            self._libcuda.standin_break(why.encode(), LAUNCH_FAILED)
