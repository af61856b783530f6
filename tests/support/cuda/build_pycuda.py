"""Builds pycuda from its source and installs it, without CUDA's toolkit and without a GPU:

python -m tests.support.cuda.build_pycuda

The headers are those of NVIDIA's packages; the driver is there when the tests run: see libcuda.py.
Where pycuda is installed already, nothing is done, nor where there is a GPU: pycuda then has to fit
its driver, and `make test-gpu` builds it with the toolkit that came with that.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edge.devices.cuda.driver import gpu_fault
from tests.support.cuda.headers import cuda_headers

PYCUDA = "pycuda>=2025.1.2"  # the first that knows CUDA 13


def _pip(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", *arguments, "--quiet"], check=True)


def _make_driver(folder: Path) -> None:
    """A libcuda.so to link with. It has a function that pycuda calls: a linker leaves out a library
    of which nothing is needed, and the binding has to ask for libcuda.so.1 when it is loaded."""
    options = ["-shared", "-Wl,-soname,libcuda.so.1", "-x", "c", "-", "-o", folder / "libcuda.so"]
    subprocess.run(["gcc", *options], input="int cuInit(void) { return 0; }", text=True, check=True)


def build(folder: Path) -> None:
    _make_driver(folder)
    _pip("download", "--no-deps", "--no-binary", "pycuda", "--dest", folder, PYCUDA)
    (archive,) = folder.glob("pycuda-*.tar.gz")
    shutil.unpack_archive(archive, folder)
    source = folder / archive.name.removesuffix(".tar.gz")
    subprocess.run(
        [
            sys.executable,
            "configure.py",
            f"--cuda-inc-dir={','.join(map(str, cuda_headers()))}",
            f"--cudadrv-lib-dir={folder}",
            "--no-cuda-enable-curand",
        ],
        cwd=source,
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PATH": "/usr/bin:/bin"},  # another toolkit's headers are not wanted
    )
    _pip("install", source)


def main() -> None:
    if importlib.util.find_spec("pycuda") is not None or gpu_fault() is None:
        return
    if not cuda_headers() or shutil.which("g++") is None:
        print("pycuda cannot be built here (no g++, or no cuda.h): its tests will be skipped")
        return
    started = time.monotonic()
    print("building pycuda, which takes minutes")
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
    print(f"pycuda was built in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
