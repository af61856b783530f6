"""Functions that numba compiles once on each machine.

What it makes is kept as machine code (see edge.code_cache), and later starts load that without
numba, whose import and lookups took longer than any other part of a run's start: 0.8 s of processor
time on a slow AMD EPYC, where LLVM's own loader, with all that it imports, takes 0.2.

Functions for numba are in modules of their own, named *_kernel.py, so that these alone import it.
A Kernel names one, and compiles it for one set of types.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from numpy.typing import NDArray

from edge.code_cache import CodeCache, key_of

_CACHE = CodeCache("kernels-cpu", 64)
_SCALARS: dict[str, type[ctypes._SimpleCData[Any]]] = {
    "int64": ctypes.c_int64,
    "float32": ctypes.c_float,
    "float64": ctypes.c_double,
}
# Symbols that only code that allocates has, and only code that raises.
_ALLOCATES, _RAISES = (b"NRT_Allocate", b"NRT_MemInfo_alloc"), (b".const.pickledata",)
# Functions of numba's that its wrapper around a function calls in case of an exception.
_NUMBAS = re.compile(rb"\b(?:NRT|numba)_[A-Za-z_]+")
# What does not raise does not call them; a name without an address would not load.
_NEVER_CALLED = ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value
_LOCK = Lock()  # neither numba nor LLVM's loader is for two threads at a time


class Kernel:
    """A function of a module for numba, which returns nothing and raises nothing.

    It is given numbers and arrays, C-contiguous and aligned, and writes into some of those. It must
    not allocate, nor do what numba makes raise, such as assigning a slice to a slice or unpacking
    an array: such code would need numba to run, and is refused with ValueError when it is compiled.
    """

    def __init__(self, module: str, name: str, *arguments: str, sees: tuple[str, ...] = ()) -> None:
        """module: its full name; if it has a FASTMATH, that is as of numba.njit. arguments: a type
        each, as "float32" (or "float64", "int64"), or of an array "float32[3]" with its number of
        axes, of one that is written to "float32[3]!". sees: modules that the first one has
        constants or functions from."""
        self._module, self._name, self._sees = module, name, sees
        self._arguments = [_parsed(argument) for argument in arguments]

    def __call__(self, *values: Any) -> None:
        """Other threads run meanwhile. Raises ValueError for arrays of another type or layout, and
        for read-only ones where it writes."""
        words: list[Any] = []
        for argument, value in zip(self._arguments, values, strict=True):
            if not argument.axes:
                words.append(value)
                continue
            if not argument.accepts(value):
                raise ValueError(
                    f"{self._name} needs {argument}, C-contiguous and aligned, not {value.dtype}"
                    f"[{value.ndim}] with strides {value.strides} and {value.flags}"
                )
            words.append(value.ctypes.data)
            words.extend(value.shape)
        self._function(*words)

    def load(self) -> None:
        """Compile it, or load what was compiled, before it is used."""
        _ = self._function

    @cached_property
    def _function(self) -> Callable[..., None]:
        """The machine code: a pointer and the sides of each array, and numbers."""
        with _LOCK:
            if (blob := _CACHE.find(self._key)) is None:
                blob = self.compile()
                _CACHE.keep(self._key, blob)
            symbol, _, code = blob.partition(b"\0")
            address = _load(symbol.decode(), code)
        types: list[type] = []
        for each in self._arguments:
            sides = [ctypes.c_int64] * each.axes
            types += [ctypes.c_void_p, *sides] if sides else [_SCALARS[each.dtype.name]]
        return ctypes.CFUNCTYPE(None, *types)(address)

    @property
    def _key(self) -> str:
        """Of the source, of how it is compiled and called, and of the processor."""
        sources = [_source(name) for name in (self._module, *self._sees, __name__)]
        settings = [
            item
            for item in sorted(os.environ.items())
            if item[0].startswith("NUMBA_") and item[0] != "NUMBA_CACHE_DIR"
        ]
        processor = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
        system = llvm.get_process_triple()
        libraries = version("numba"), version("llvmlite")
        arguments = [str(each) for each in self._arguments]
        return key_of([sources, self._name, arguments, *libraries, settings, system, *processor])

    def compile(self) -> bytes:
        """The name of the function in its machine code, a zero byte, and that code as an object
        file, which is not kept."""
        compiled = self.compiled_by_numba()
        _, _, (code, _) = compiled._library.serialize_using_object_code()
        for what, names in (("allocates", _ALLOCATES), ("raises", _RAISES)):
            if any(name in code for name in names):
                raise ValueError(f"{self._module}.{self._name} {what}: it would need numba to run")
        return bytes(compiled.native_name.encode() + b"\0" + code)

    def compiled_by_numba(self) -> Any:
        """As a numba.cfunc. Numba's own cache is not used: it does not see other modules change."""
        import numba

        module = import_module(self._module)
        options: dict[str, Any] = {
            "nogil": True,
            "fastmath": getattr(module, "FASTMATH", False),
            "error_model": "numpy",
        }
        function = numba.njit(**options)(getattr(module, self._name))
        native: list[Any] = []
        for each in self._arguments:
            number, sides = getattr(numba, each.dtype.name), [numba.int64] * each.axes
            native += [numba.types.CPointer(number), *sides] if sides else [number]
        entry = self._with_pointers(function)
        return numba.cfunc(numba.void(*native), **options)(entry)

    def _with_pointers(self, function: Any) -> Any:
        """The function with a pointer and the sides of each array, as C has them."""
        from numba import carray

        names, values = [], []
        for index, argument in enumerate(self._arguments):
            sides = [f"side_{index}_{axis}" for axis in range(argument.axes)]
            names += [f"value_{index}", *sides]
            array = f"carray(value_{index}, ({''.join(f'{side}, ' for side in sides)}))"
            values.append(array if sides else f"value_{index}")
        # a name of its own, since all kernels are loaded into one engine
        name = f"{self._module}_{self._name}".replace(".", "_")
        scope = {"carray": carray, "function": function}
        text = f"def {name}({', '.join(names)}):\n    function({', '.join(values)})\n"
        exec(text, scope)  # numba compiles functions, and this one is of any number of arguments
        return scope[name]


@dataclass(frozen=True, slots=True)
class _Argument:
    """axes: of an array; 0: a number. written: whether the function writes to it."""

    dtype: np.dtype[Any]
    axes: int
    written: bool

    def __str__(self) -> str:
        return f"{self.dtype}[{self.axes}]{'!' * self.written}" if self.axes else str(self.dtype)

    def accepts(self, value: NDArray[Any]) -> bool:
        flags = value.flags
        layout = flags.c_contiguous and flags.aligned and (flags.writeable or not self.written)
        return layout and value.dtype == self.dtype and value.ndim == self.axes


def _parsed(argument: str) -> _Argument:
    name, _, axes = argument.rstrip("]!").partition("[")
    return _Argument(np.dtype(name), int(axes or 0), argument.endswith("!"))


def _source(module: str) -> str:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8")


@cache
def _engine() -> Any:
    """One for the process: it holds the code that it has loaded."""
    with suppress(RuntimeError):  # needed before llvmlite 0.45, refused by later ones
        llvm.initialize()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


def _load(symbol: str, code: bytes) -> int:
    """The address of a function in an object file."""
    for name in {found.decode() for found in _NUMBAS.findall(code)}:
        if llvm.address_of_symbol(name) is None:  # numba, if it is used later, sets its own
            llvm.add_symbol(name, _NEVER_CALLED)
    _engine().add_object_file(llvm.ObjectFileRef.from_data(code))
    _engine().finalize_object()
    return int(_engine().get_function_address(symbol))
