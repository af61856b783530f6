"""Compiles all kernels for a release, with NVRTC from PyPI; no GPU is needed.

    python -m edge.devices.cuda.kernels.release FOLDER

A driver is promised to load machine code of newer versions within its own major version of CUDA
alone (cubins of CUDA 13 have ABI version 8, those of CUDA 12 have 7), and PTX of versions up to its
own. So everything is made by CUDA 12.2, which JetPack 6.0 has, but for what that does not know.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from edge.devices.cuda.kernels.launches import FILES, source
from edge.devices.cuda.kernels.precompiled import PTX, binary_name

# Turing, Ampere of PCs, Orin, Ada, Hopper; PTX for those in between and after; Thor.
TARGETS: Mapping[int, tuple[str, ...]] = {
    12: ("sm_75", "sm_86", "sm_87", "sm_89", "sm_90", PTX),
    13: ("sm_110",),
}
PACKAGES = {12: "nvidia-cuda-nvrtc-cu12", 13: "nvidia-cuda-nvrtc"}
PTX_CUDA = (12, 2)


class ReleaseError(Exception):
    """The kernels cannot be compiled."""


class Compiler:
    """NVRTC of one major version of CUDA.

    Raises ReleaseError if its package is not installed, or makes PTX that the boards cannot read.
    """

    def __init__(self, cuda: int) -> None:
        package = PACKAGES[cuda]
        try:
            files = [Path(str(file.locate())) for file in metadata.files(package) or ()]
            # NVRTC asks the loader for it by its name alone
            (builtins,) = (f for f in files if f.name.startswith("libnvrtc-builtins.so"))
            (library,) = (f for f in files if f.name == f"libnvrtc.so.{cuda}")
        except (metadata.PackageNotFoundError, ValueError):
            raise ReleaseError(f'no {package}; run: pip install -e ".[dist]"') from None
        ctypes.CDLL(str(builtins), ctypes.RTLD_GLOBAL)
        self._nvrtc = ctypes.CDLL(str(library))
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        version = (major.value, minor.value)
        if PTX in TARGETS[cuda] and version != PTX_CUDA:
            raise ReleaseError(
                f"{package} is of CUDA {version[0]}.{version[1]}, whose PTX JetPack 6.0 does not "
                'read; run: pip install -e ".[dist]"'
            )

    def compile(self, file: str, target: str) -> bytes:
        """One of FILES as a cubin or, for a target "compute_NN", as PTX with its closing zero.

        Raises ReleaseError with what the compiler says.
        """
        nvrtc, program = self._nvrtc, ctypes.c_void_p()
        option = (ctypes.c_char_p * 1)(f"--gpu-architecture={target}".encode())
        text = source(file).encode()
        nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, file.encode(), 0, None, None)
        try:
            if nvrtc.nvrtcCompileProgram(program, 1, option):
                log = self._read(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
                raise ReleaseError(f"{file} for {target}: {log.strip()}")
            return self._read(program, "PTX" if target.startswith("compute") else "CUBIN")
        finally:
            nvrtc.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        getattr(self._nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        data = ctypes.create_string_buffer(size.value)
        getattr(self._nvrtc, f"nvrtcGet{what}")(program, data)
        return data.raw


def compile_all(folder: Path) -> None:
    """Write the kernels for all targets to `folder`. Raises ReleaseError."""
    folder.mkdir(parents=True, exist_ok=True)
    for cuda, targets in TARGETS.items():
        compiler = Compiler(cuda)
        for target in targets:
            for file in FILES:
                (folder / binary_name(file, target)).write_bytes(compiler.compile(file, target))


if __name__ == "__main__":
    try:
        compile_all(Path(sys.argv[1]))
    except ReleaseError as fault:
        sys.exit(f"kernels cannot be compiled: {fault}")
