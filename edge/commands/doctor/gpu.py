"""Checks what the CUDA device needs (driver, compiler, TensorRT, pycuda), and for a DLA."""

from __future__ import annotations

import re

from edge.commands.doctor.board import Board, has_gpu, jetson
from edge.commands.doctor.check import Check
from edge.commands.doctor.machine import PYTHON_HEADER, Machine
from edge.commands.doctor.python import hidden, show_hidden, version_pair
from edge.devices.cuda.kernels.precompiled import OLDEST_DRIVER, suitable_target
from edge.devices.tensorrt.version import FIRST_TYPED_DLA, LAST_IMPLICIT_DLA, NEWEST, OLDEST
from edge.installation import PYCUDA_NEEDS

_NVDLA = "libnvdla_compiler.so"
_TOOLKIT = "/usr/local/cuda/bin"
_JETPACK = "`sudo apt update && sudo apt install nvidia-jetpack`"
_NO_GPU = "there is no NVIDIA GPU"
_CUDA_RELEASE = r"release (\d+\.\d+)"  # as nvcc says
# The first pycuda that the headers of CUDA 13 can build: cuCtxCreate has other arguments there.
_PYCUDA_FOR_CUDA_13 = (2025, 1, 2)
_PYCUDA_OLDEST = ".".join(map(str, _PYCUDA_FOR_CUDA_13))


def _absent(name: str, why: str = _NO_GPU) -> Check:
    return Check(name, "not on this board", why, needed_by=("cuda",))


def _missing(name: str, detail: str, remedy: str) -> Check:
    return Check(name, "missing", detail, remedy, ("cuda",))


def check_driver(machine: Machine) -> Check:
    name = "CUDA driver"
    if not has_gpu(machine):
        return _absent(name)
    driver, board = machine.driver, jetson(machine)
    if driver.get("gpus"):
        version = driver["version"]
        gpus = ", ".join(f"{gpu} (sm_{major}{minor})" for gpu, major, minor in driver["gpus"])
        return Check(name, "ok", f"CUDA {version // 1000}.{version % 1000 // 10}, {gpus}")
    if driver:
        detail = f"its library is installed, but finds no GPU (CUDA error {driver['fault']})"
    else:
        detail = machine.cuda.fault
    if machine.in_container:
        option = "--runtime nvidia" if board else "--gpus all"
        return _missing(name, detail, f"start the container with `docker run {option}`")
    if board is None:
        return _missing(name, detail, "install NVIDIA's driver, reboot, then see `nvidia-smi`")
    if driver:
        return _missing(name, detail, "`sudo usermod -aG video,render $USER`, then log in again")
    return _missing(name, detail, "`sudo apt update && sudo apt install nvidia-l4t-cuda`")


def check_toolkit(machine: Machine) -> Check:
    """nvcc compiles the kernels that the package has not compiled; the CUDA device uses JetPack's,
    else the first on PATH."""
    name = "CUDA toolkit"
    if not has_gpu(machine):
        return _absent(name)
    kernels = _compiled_kernels(machine)
    for nvcc in (f"{_TOOLKIT}/nvcc", "nvcc"):
        if match := re.search(_CUDA_RELEASE, machine.output(f"{nvcc} --version")):
            known = machine.output(f"{nvcc} --list-gpu-code").split()  # from CUDA 11 on
            for _, major, minor in machine.driver.get("gpus", ()):
                if not kernels and known and f"sm_{major}{minor}" not in known:
                    fault = f"{nvcc} {match[1]} cannot compile for sm_{major}{minor}"
                    return _missing(name, fault, "install the CUDA toolkit that fits the driver")
            return Check(name, "ok", f"{nvcc} {match[1]}", needed_by=("cuda",))
    if kernels:
        return Check(name, "ok", f"no nvcc, and none is needed: the package has {kernels}")
    if jetson(machine):
        return _missing(name, "there is no nvcc", _JETPACK)
    return _missing(
        name,
        "there is no nvcc",
        "`sudo apt install nvidia-cuda-toolkit`, or NVIDIA's own for your driver",
    )


def _compiled_kernels(machine: Machine) -> str:
    """Which of the package's kernels serve the GPUs; nothing unless all are served."""
    if machine.driver.get("version", 0) < OLDEST_DRIVER:
        return ""
    targets = [
        suitable_target(machine.kernels, major * 10 + minor)
        for _, major, minor in machine.driver.get("gpus", ())
    ]
    if None in targets or not targets:
        return ""
    return f"kernels for {' and '.join(sorted({str(target) for target in targets}))}"


def check_tensorrt(machine: Machine) -> Check:
    name = "TensorRT"
    if not has_gpu(machine):
        return _absent(name)
    answer, board = machine.imports["tensorrt"], jetson(machine)
    system = machine.system_imports.get("tensorrt")
    if answer.code == 0:
        return _check_version(answer.out.strip(), board)
    if _NVDLA in answer.err or (system and _NVDLA in system.err):
        return _missing(name, f"its import fails, {_NVDLA} is missing", _mend_nvdla(machine, board))
    if board and (board.host_jetpack or 6) < 6:
        return _old_release(
            f"that of JetPack {board.host_jetpack} is for Python 3.8 or older", board
        )
    if "tensorrt" in hidden(machine):
        detail = "the distribution has it, but this Python environment does not see it"
        return _missing(name, detail, show_hidden(machine))
    if board is None:
        return _missing(name, _fault(answer.err, answer.fault), _wheel(machine))
    again = "" if "ModuleNotFoundError" in answer.err else "--reinstall "
    remedy = f"`sudo apt update && sudo apt install {again}python3-libnvinfer`"
    return _missing(name, _fault(answer.err, answer.fault), remedy)


def _fault(err: str, fault: str) -> str:
    return "not installed" if "ModuleNotFoundError" in err else f"its import fails ({fault})"


def _wheel(machine: Machine) -> str:
    """The pip command. TensorRT's packages are named after the CUDA version of the driver."""
    major = machine.driver.get("version", 12000) // 1000
    return f"`pip install tensorrt-cu{max(major, 12)}`"


def _check_version(text: str, board: Board | None) -> Check:
    version = version_pair(text)
    known = ".".join(map(str, OLDEST)) + " ... " + ".".join(map(str, NEWEST))
    if version is None or version > NEWEST:
        detail = f"{text}, outside of the supported versions {known}"
        return Check("TensorRT", "note", detail, "check the results with `twostream verify`")
    if version >= OLDEST:
        return Check("TensorRT", "ok", text, needed_by=("cuda",))
    if board:
        return _old_release(f"{text} is too old, twostream needs {known}", board)
    return _missing("TensorRT", f"{text} is too old, twostream needs {known}", "upgrade it by pip")


def _old_release(why: str, board: Board) -> Check:
    """JetPack 5 is the last release for Xavier, JetPack 4 for older boards."""
    if board.chip in ("tegra210", "tegra186", "tegra194"):
        return _absent("TensorRT", f"{why}, and there is no later JetPack for this board")
    return _missing("TensorRT", why, "flash JetPack 6 or later with NVIDIA's SDK Manager")


def _mend_nvdla(machine: Machine, board: Board | None) -> str:
    """How to install libnvdla_compiler.so, which TensorRT needs up to JetPack 6.

    JetPack 6 has it in a package that minimal board support packages leave out; a container gets
    the board's copy mounted. JetPack 7 has no such library and its TensorRT does not need it, but
    the TensorRT of an image for an earlier release does.
    """
    if board is None:
        return "this TensorRT is for a Jetson; use a container for a PC"
    release = board.host_jetpack or board.jetpack or 6
    if release >= 7 and machine.in_container:
        return (
            f"JetPack {release} has no such library, and this container is for an earlier "
            "release; use one for JetPack 7.2, or run outside of a container with "
            "`sudo apt install python3-libnvinfer`"
        )
    if release >= 7:
        return (
            f"JetPack {release} has no such library, and this TensorRT is for an earlier "
            "release; `pip uninstall tensorrt; sudo apt install --reinstall python3-libnvinfer`"
        )
    package = "nvidia-l4t-dla-compiler" if release == 6 else "--reinstall nvidia-l4t-core"
    command = f"`sudo apt update && sudo apt install {package}`"
    if machine.in_container:
        return f"{command} on the board, outside of this container, then restart the container"
    return command


def check_pycuda(machine: Machine) -> Check:
    name = "pycuda"
    if not has_gpu(machine):
        return _absent(name)
    answer = machine.imports["pycuda.driver"]
    if answer.code == 0:
        return _check_pycuda_version(answer.out.strip(), machine)
    if "libcuda.so" in answer.err:
        detail = f"installed, but the driver's library is missing ({answer.fault})"
        return _missing(name, detail, "fix the CUDA driver first")
    if "ModuleNotFoundError" in answer.err:
        return _missing(name, "not installed", _build_pycuda(machine, ""))
    again = _build_pycuda(machine, "--force-reinstall --no-cache-dir ")
    return _missing(name, f"its import fails ({answer.fault})", again)


def _check_pycuda_version(text: str, machine: Machine) -> Check:
    version = tuple(map(int, re.findall(r"\d+", text)[:3]))
    cuda = _cuda_version(machine)
    if cuda >= (13, 0) and version < _PYCUDA_FOR_CUDA_13:
        detail = (
            f"{text}, which was not made for CUDA {cuda[0]}.{cuda[1]}: that takes "
            f"{_PYCUDA_OLDEST} or later"
        )
        return Check("pycuda", "note", detail, _build_pycuda(machine, ""))
    return Check("pycuda", "ok", text, needed_by=("cuda",))


def _cuda_version(machine: Machine) -> tuple[int, int]:
    """That of the toolkit, whose headers pycuda is built with; without one that of the driver."""
    for nvcc in ("nvcc", f"{_TOOLKIT}/nvcc"):
        if match := re.search(_CUDA_RELEASE, machine.output(f"{nvcc} --version")):
            return version_pair(match[1]) or (0, 0)
    version = machine.driver.get("version", 0)
    return version // 1000, version % 1000 // 10


def _build_pycuda(machine: Machine, options: str) -> str:
    """pip builds pycuda from source, with a compiler and the headers of Python and CUDA."""
    steps, note = [], ""
    there = {
        "g++": machine.output("g++ --version") != "",
        "python3-dev": PYTHON_HEADER in machine.files,
    }
    if missing := [package for package in PYCUDA_NEEDS.split() if not there[package]]:
        steps.append(f"sudo apt install {' '.join(missing)}")
    if not machine.output("nvcc --version"):
        # The build finds nvcc on PATH, and cuda.h relative to it.
        steps.append(f"export PATH={_TOOLKIT}:$PATH")
        note = ", else cuda.h is not found"
    steps.append(f"pip install {options}'pycuda>={_PYCUDA_OLDEST}'")
    command = f"`{'; '.join(steps)}`{note}"
    if note and f"{_TOOLKIT.removesuffix('/bin')}/include/cuda.h" not in machine.files:
        return f"after installing the CUDA toolkit, {command}"
    return command


def check_dla(machine: Machine) -> Check:
    board = jetson(machine)
    if board is None:
        return Check("DLA", "not on this board", "this is no Jetson")
    if not board.chip and not board.orin_nano:
        return Check("DLA", "note", "unknown: this container does not show /proc/device-tree")
    if not board.has_dla:
        return Check("DLA", "not on this board", "the board has none; the GPU is used")
    version = tuple(map(int, re.findall(r"\d+", machine.imports["tensorrt"].out)))
    if version[:2] > LAST_IMPLICIT_DLA and version[:3] < FIRST_TYPED_DLA:
        detail = "the board has one, but TensorRT from 10.8 to 11.4.0 does not use it"
        return Check("DLA", "note", detail)
    return Check("DLA", "ok", "the board has one")
