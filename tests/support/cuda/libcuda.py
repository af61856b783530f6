"""A stand-in for NVIDIA's driver, libcuda.so.1, built from libcuda/*.cpp, in this process.

Whoever then opens libcuda.so.1 by its name, as pycuda and the project do, gets this one.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

from tests.support.cuda.headers import cuda_headers

SOURCES = Path(__file__).with_name("libcuda")
_OPTIONS = "-std=c++17 -O2 -fPIC -U_FORTIFY_SOURCE -Wall -Werror -Wl,-soname,libcuda.so.1"


def _driver_functions() -> set[str]:
    """What pycuda's binding needs of the driver: all of it has to be there to load the binding."""
    spec = importlib.util.find_spec("pycuda")
    if spec is None or spec.origin is None:
        pytest.skip("pycuda is not installed: make test builds it")
    (binding,) = Path(spec.origin).parent.glob("_driver*.so")
    listed = subprocess.run(
        ["nm", "-D", "--undefined-only", binding], capture_output=True, text=True, check=True
    )
    return set(re.findall(r"\b(cu[A-Z]\w*)", listed.stdout))


def _build(library: Path, compiler: list[str | Path], functions: set[str]) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as name:
        folder = Path(name)
        missing = folder / "missing.cpp"
        for source in sorted(SOURCES.glob("*.cpp")):
            subprocess.run([*compiler, "-c", source, "-o", folder / f"{source.stem}.o"], check=True)
        objects = sorted(folder.glob("*.o"))
        listed = subprocess.run(
            ["nm", "--defined-only", *objects], capture_output=True, text=True, check=True
        )
        there = set(re.findall(r"\b(cu[A-Z]\w*)", listed.stdout))
        missing.write_text(
            "".join(
                f'extern "C" int {function}() {{ return 801; }}  // CUDA_ERROR_NOT_SUPPORTED\n'
                for function in sorted(functions - there)
            )
        )
        made = folder / "made.so"
        subprocess.run([*compiler, "-shared", missing, *objects, "-o", made], check=True)
        made.rename(library)


@cache
def load_libcuda() -> ctypes.CDLL:
    """Build it where that was not done yet, and load it, without a GPU in it: see gpu.py.

    Skips the test where g++, cuda.h or pycuda are not installed, and where pycuda has loaded
    another driver already.
    """
    if "pycuda._driver" in sys.modules:
        pytest.skip("pycuda is at work on a real GPU in this process")
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed; it builds the stand-in for CUDA's driver")
    headers = cuda_headers()
    if not headers:
        pytest.skip("cuda.h is not installed: make test installs it")
    functions = _driver_functions()
    compiler = ["g++", *_OPTIONS.split(), *(f"-I{folder}" for folder in headers)]
    parts = [file.read_text() for file in sorted(SOURCES.iterdir())]
    text = "\n".join([*parts, *map(str, compiler), *sorted(functions)])
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    library = Path(tempfile.gettempdir()) / f"twostream-libcuda-{digest}.so"
    if not library.exists():
        _build(library, compiler, functions)
    loaded = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    for function in ("standin_fault", "standin_launched", "standin_access"):
        getattr(loaded, function).restype = ctypes.c_char_p
    loaded.standin_count.restype = ctypes.c_size_t
    loaded.standin_calls.restype = ctypes.c_long
    return loaded
