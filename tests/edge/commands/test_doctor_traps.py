"""`twostream doctor` where something is wrong: what people ran into, one thing at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge.commands.doctor.machine import SYSTEM_PYTHON, Answer, Machine
from edge.commands.doctor.report import summarise, usable_devices
from tests.support.machines import (
    ABSENT,
    AGX_ORIN,
    CPU,
    CUDA,
    NANO,
    NO_LIBCUDA,
    NVCC,
    NVDLA,
    ORIN_NANO,
    PC,
    PC_WITHOUT_NVCC,
    THIN,
    THOR,
    XAVIER_NX,
    checked,
    driver,
    elements,
    gib,
    imports,
    without,
)


def test_nvcc_outside_of_path_is_added_to_the_pycuda_remedy() -> None:
    """inducer/pycuda#201: cuda.h is looked for where nvcc is found, on PATH alone."""
    checks = checked(without(ORIN_NANO, "nvcc --version", **{"pycuda.driver": ABSENT}))
    assert checks["CUDA toolkit"].status == "ok"
    assert "/usr/local/cuda/bin/nvcc 12.6" in checks["CUDA toolkit"].text
    assert "; export PATH=/usr/local/cuda/bin:$PATH; pip install 'pycuda>=" in checks["pycuda"].text
    assert "cuda.h" in checks["pycuda"].text


@pytest.mark.parametrize(
    ("there", "installs"),
    [
        ((), "`sudo apt install g++ python3-dev; "),
        (("g++",), "`sudo apt install python3-dev; "),
        (("Python.h",), "`sudo apt install g++; "),
        (("g++", "Python.h"), "`pip install 'pycuda>=2025.1.2'`"),
    ],
)
def test_what_pycuda_is_built_with_comes_first(there: tuple[str, ...], installs: str) -> None:
    machine = without(ORIN_NANO, **{"pycuda.driver": ABSENT})
    if "g++" in there:
        answer = Answer(0, "g++ (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0\n")
        machine = replace(machine, commands={**machine.commands, "g++ --version": answer})
    if "Python.h" in there:
        machine = replace(machine, files={**machine.files, "Python.h": ""})
    check = checked(machine)["pycuda"]
    assert check.status == "missing"
    assert check.remedy.startswith(installs)
    assert check.remedy.endswith("pip install 'pycuda>=2025.1.2'`")


@pytest.mark.parametrize(
    ("version", "nvcc", "driver_version", "says"),
    [
        ("2025.1.1", "13.0", 13000, "2025.1.1, which was not made for CUDA 13.0"),
        ("2024.1.2", "", 13020, "2024.1.2, which was not made for CUDA 13.2"),
        ("2025.1.2", "13.0", 13000, ""),
        ("2026.1", "13.0", 13000, ""),
        ("2024.1.2", "12.6", 13000, ""),  # built with CUDA 12, which newer drivers go on with
        ("2024.1.2", "12.6", 12060, ""),
    ],
)
def test_cuda_13_takes_a_later_pycuda(
    version: str, nvcc: str, driver_version: int, says: str
) -> None:
    machine = without(THOR, "nvcc --version", **{"pycuda.driver": Answer(0, version)})
    if nvcc:
        answer = Answer(0, NVCC.format(nvcc))
        machine = replace(machine, commands={**machine.commands, "nvcc --version": answer})
    checks = checked(replace(machine, cuda=driver(driver_version, ("NVIDIA Thor", 11, 0))))
    assert checks["pycuda"].status == ("note" if says else "ok")
    assert says in checks["pycuda"].text
    if says:
        assert "2025.1.2 or later" in checks["pycuda"].text
        assert "pip install 'pycuda>=2025.1.2'" in checks["pycuda"].remedy


WHEEL = frozenset({"sm_87", "compute_75"})


@pytest.mark.parametrize(
    ("driver_version", "gpu", "kernels", "says"),
    [
        (
            12060,
            ("Orin", 8, 7),
            WHEEL,
            "no nvcc, and none is needed: the package has kernels for sm",
        ),
        (13000, ("NVIDIA Thor", 11, 0), WHEEL, "the package has kernels for compute_75"),
        (12060, ("Orin", 8, 7), frozenset(), "there is no nvcc"),
        (12060, ("Xavier", 7, 2), WHEEL, "there is no nvcc"),
        (11080, ("Orin", 8, 7), WHEEL, "there is no nvcc"),  # its driver reads none of them
    ],
)
def test_compiled_kernels_need_no_compiler(
    driver_version: int, gpu: tuple[str, int, int], kernels: frozenset[str], says: str
) -> None:
    bare = without(ORIN_NANO, "nvcc --version", "/usr/local/cuda/bin/nvcc --version")
    machine = replace(bare, kernels=kernels, cuda=driver(driver_version, gpu))
    check = checked(machine)["CUDA toolkit"]
    assert says in check.text
    assert check.stops("cuda") == ("no nvcc" in says and "needed" not in says)


def test_pycuda_without_a_driver_is_not_built_again() -> None:
    fault = Answer(1, err=f"ImportError: {NO_LIBCUDA.err.partition(': ')[2]}")
    machine = replace(without(ORIN_NANO, **{"pycuda.driver": fault}), cuda=NO_LIBCUDA)
    checks = checked(machine)
    assert "`sudo apt update && sudo apt install nvidia-l4t-cuda`" in checks["CUDA driver"].text
    assert "fix the CUDA driver first" in checks["pycuda"].text


@pytest.mark.parametrize(
    ("version", "status"),
    [("8.4.1.5", "missing"), ("8.5.2.2", "ok"), ("11.4.1", "ok"), ("11.5.0", "note")],
)
def test_supported_tensorrt_versions(version: str, status: str) -> None:
    check = checked(without(AGX_ORIN, tensorrt=Answer(0, version)))["TensorRT"]
    assert check.status == status
    assert version in check.text


def test_boards_without_a_new_enough_tensorrt() -> None:
    check = checked(without(NANO, tensorrt=Answer(0, "8.2.1.8")))["TensorRT"]
    assert (check.status, "8.5 ... 11.4" in check.text) == ("not on this board", True)


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ("8.5.2.2", "ok"),
        ("10.7.0.23", "ok"),
        ("10.8.0", "note"),
        ("11.4.0", "note"),
        ("11.4.1", "ok"),
    ],
)
def test_a_dla_that_tensorrt_does_not_use(version: str, status: str) -> None:
    assert checked(without(AGX_ORIN, tensorrt=Answer(0, version)))["DLA"].status == status


@pytest.mark.parametrize(
    ("machine", "says"),
    [
        (THIN, "`sudo apt update && sudo apt install nvidia-l4t-dla-compiler`"),
        (
            replace(THIN, files=dict(THIN.files) | {"/.dockerenv": ""}),
            "nvidia-l4t-dla-compiler` on the board, outside of this container",
        ),
        (
            replace(XAVIER_NX, imports=dict(XAVIER_NX.imports) | {"tensorrt": NVDLA}),
            "install --reinstall nvidia-l4t-core`",
        ),
        (
            # JetPack 7.2 itself, with a TensorRT that pip brought
            replace(
                THIN,
                files=dict(THIN.files)
                | {"/etc/nv_tegra_release": "# R39 (release), REVISION: 2.0, GCID: 45755727\n"},
            ),
            "`pip uninstall tensorrt; sudo apt install --reinstall python3-libnvinfer`",
        ),
        (without(PC_WITHOUT_NVCC, tensorrt=NVDLA), "for a PC"),
    ],
)
def test_the_missing_library_of_the_dla(machine: Machine, says: str) -> None:
    check = checked(machine)["TensorRT"]
    assert check.status == "missing"
    assert "libnvdla_compiler.so is missing" in check.text
    assert says in check.text


def test_an_environment_that_hides_the_distribution() -> None:
    closed = replace(
        without(ORIN_NANO, gi=ABSENT, tensorrt=ABSENT), gstreamer=Answer(1, err="no gi")
    )
    checks = checked(closed)
    mends = f"`{SYSTEM_PYTHON} -m venv --system-site-packages {closed.prefix}`"
    for name in ("Python", "GStreamer", "TensorRT"):
        assert checks[name].status == "missing"
        assert checks[name].remedy == mends
    assert "gi and tensorrt" in checks["Python"].text
    assert usable_devices(checks.values()) == []
    assert mends in summarise(list(checks.values()))


def test_an_environment_of_another_python_is_made_anew() -> None:
    other = replace(without(ORIN_NANO, gi=ABSENT, tensorrt=ABSENT), python="3.12.3")
    assert "--clear --system-site-packages" in checked(other)["Python"].text


def test_gstreamer_without_some_elements() -> None:
    few = elements("appsink", "appsrc", "decodebin", "decodebin3", "videoconvert", "videotestsrc")
    checks = checked(replace(PC, gstreamer=few))
    line = checks["GStreamer elements"]
    assert "no jpegdec, matroskamux, mp4mux, rtspsrc, v4l2src, videoflip, h264parse" in line.text
    assert "gstreamer1.0-plugins-good gstreamer1.0-plugins-bad`" in line.text
    assert checks["H.264 decoding"].remedy == "`sudo apt install gstreamer1.0-libav`"
    assert "plugins-ugly" in checks["H.264 encoding"].text
    assert usable_devices(checks.values()) == []


@pytest.mark.parametrize(
    ("err", "says"),
    [
        ("ImportError: libGL.so.1: cannot open shared object file", "`sudo apt install libgl1`"),
        ("ModuleNotFoundError: No module named 'cv2'", "`pip install opencv-python`"),
    ],
)
def test_opencv_that_does_not_load(err: str, says: str) -> None:
    assert says in checked(without(PC, cv2=Answer(1, err=err)))["OpenCV"].text


@pytest.mark.parametrize(
    ("machine", "says"),
    [
        (replace(ORIN_NANO, cuda=driver(12060, fault=999)), "CUDA error 999"),
        (replace(PC_WITHOUT_NVCC, cuda=NO_LIBCUDA), "NVIDIA's driver"),
        (
            replace(
                PC_WITHOUT_NVCC, cuda=NO_LIBCUDA, files={"/.dockerenv": ""} | PC_WITHOUT_NVCC.files
            ),
            "--gpus all",
        ),
        (replace(ORIN_NANO, cuda=Answer(-11)), "crashes (signal 11)"),
    ],
)
def test_a_driver_that_opens_no_gpu(machine: Machine, says: str) -> None:
    check = checked(machine)["CUDA driver"]
    assert check.status == "missing"
    assert says in check.text


def test_nothing_installed_on_a_fresh_board() -> None:
    fresh = replace(
        ORIN_NANO,
        commands={f"{SYSTEM_PYTHON} --version": Answer(0, "Python 3.10.12\n")},
        free_memory_bytes=gib(1.9),
        imports=imports(),
        system_imports={"gi": ABSENT, "tensorrt": ABSENT},
        gstreamer=Answer(1, err="edge.errors.TwostreamError: not installed (No gi): run `sudo`"),
    )
    checks = checked(fresh)
    assert "install python3-libnvinfer`" in checks["TensorRT"].text
    assert "install nvidia-jetpack`" in checks["CUDA toolkit"].text
    assert "`sudo apt install python3-gi" in checks["GStreamer"].text
    assert checks["free memory"].status == "note"
    assert "cpu cannot yet, first OpenCV" in summarise(list(checks.values()))


@pytest.mark.parametrize(
    ("answers", "status", "text"),
    [
        ({}, "ok", "aiohttp 3.10.5, prometheus_client 0.20.0"),
        ({"aiohttp": ABSENT}, "missing", "aiohttp is not installed: `pip install"),
        ({"prometheus_client": ABSENT}, "missing", "prometheus_client is not installed"),
        ({"aiohttp": Answer(-11)}, "missing", "aiohttp does not load (crashes (signal 11))"),
    ],
)
def test_the_live_page_needs_packages_of_its_own(
    answers: dict[str, Answer], status: str, text: str
) -> None:
    machine = without(PC, **answers)
    checks = checked(machine)
    assert checks["live page"].status == status
    assert text in checks["live page"].text
    assert usable_devices(checks.values()) == ["cpu"]


def test_the_wheel_of_tensorrt_is_that_of_the_driver() -> None:
    machine = replace(PC_WITHOUT_NVCC, imports=imports(**CPU, **CUDA))
    assert "`pip install tensorrt-cu12`" in checked(machine)["TensorRT"].text
    newer = replace(machine, cuda=driver(13020, ("NVIDIA RTX", 12, 0)))
    assert "`pip install tensorrt-cu13`" in checked(newer)["TensorRT"].text


def test_an_nvcc_older_than_the_gpu_is_no_help() -> None:
    """CUDA 11.5, which Ubuntu 22.04 calls nvidia-cuda-toolkit, knows no sm_89 (Ada)."""
    answers = {
        "nvcc --version": Answer(0, NVCC.format("11.5")),
        "nvcc --list-gpu-code": Answer(0, "sm_70\nsm_75\nsm_80\nsm_86\nsm_87\n"),
    }
    machine = replace(PC_WITHOUT_NVCC, commands={**PC_WITHOUT_NVCC.commands, **answers})
    ada = driver(12040, ("NVIDIA GeForce RTX 4060", 8, 9))
    checks = checked(replace(machine, cuda=ada))
    assert checks["CUDA toolkit"].status == "missing"
    assert "nvcc 11.5 cannot compile for sm_89" in checks["CUDA toolkit"].text
    assert checked(machine)["CUDA toolkit"].status == "ok"
    compiled = replace(machine, cuda=ada, kernels=frozenset({"sm_89"}))
    assert checked(compiled)["CUDA toolkit"].status == "ok"
