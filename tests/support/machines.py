"""Machines as `twostream doctor` sees them: what real boards answered, with the source of each.

Files and `nvpmodel -q` are quoted from the threads named beside them. What the probes of
edge/commands/doctor/machine.py print (imports, driver, elements) is our own format, filled with
the versions that belong to the release.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from edge.commands.doctor.check import Check
from edge.commands.doctor.machine import MODULES, SYSTEM_PYTHON, Answer, Machine
from edge.commands.doctor.report import run_checks

ABSENT = Answer(1, err="ModuleNotFoundError: No module named 'it'")
# Jonah-May-OSS/wyoming-whisper-trt#1038, 4paradigm/phanthymotus#154
NVDLA = Answer(
    1,
    err="ImportError: libnvdla_compiler.so: cannot open shared object file: "
    "No such file or directory\n",
)
NO_LIBCUDA = Answer(
    1,
    err="OSError: libcuda.so.1: cannot open shared object file: No such file or directory",
)
SOFTWARE = (
    *("appsink", "appsrc", "decodebin", "decodebin3", "videoconvert", "videotestsrc", "h264parse"),
    *("jpegdec", "matroskamux", "mp4mux", "rtspsrc", "v4l2src", "videoflip", "avdec_h264"),
    "x264enc",
)
JETSON = ("nvv4l2decoder", "nvv4l2h264enc", "nvvidconv", "nvarguscamerasrc")
NVCC = (
    "nvcc: NVIDIA (R) Cuda compiler driver\nCopyright (c) 2005-2024 NVIDIA Corporation\n"
    "Built on Wed_Aug_14_10:14:07_PDT_2024\nCuda compilation tools, release {0}, V{0}.68\n"
)


def imports(**versions: str) -> dict[str, Answer]:
    """Every module of the report: those named are there, the others not installed."""
    return {name: Answer(0, versions[name]) if name in versions else ABSENT for name in MODULES}


def elements(*names: str) -> Answer:
    return Answer(0, json.dumps({"version": "1.20.3", "elements": names}))


def driver(version: int, *gpus: tuple[str, int, int], fault: int = 0) -> Answer:
    return Answer(0, json.dumps({"fault": fault, "version": version, "gpus": gpus}))


def gib(amount: float) -> int:
    return int(amount * (1 << 30))


CPU = {
    "aiohttp": "3.10.5",
    "cv2": "4.10.0",
    "gi": "3.42.1",
    "numba": "0.60.0",
    "openvino": "2024.6.0-17404-release",
    "prometheus_client": "0.20.0",
}
CUDA = {"pycuda.driver": "2024.1.2"}

PC = Machine(
    architecture="x86_64",
    kernel="6.1.0-28-amd64",
    python="3.11.2",
    prefix="/home/ann/twostream/.venv",
    memory_bytes=gib(15.5),
    free_memory_bytes=gib(12),
    clock_range_mhz=None,
    files={
        "/etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian"\n',
        "/sys/bus/pci/devices/0000:00:02.0/vendor": "0x8086\n",
    },
    commands={f"{SYSTEM_PYTHON} --version": Answer(0, "Python 3.11.2\n")},
    imports=imports(**CPU),
    system_imports={"gi": Answer(0, "3.42.2"), "tensorrt": ABSENT},
    gstreamer=elements(*SOFTWARE),
    cuda=NO_LIBCUDA,
)

# A PC with a GPU and its driver, TensorRT and pycuda from pip, but no CUDA toolkit.
PC_WITHOUT_NVCC = replace(
    PC,
    files=dict(PC.files) | {"/sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n"},
    imports=imports(**CPU, **CUDA, tensorrt="10.9.0.34"),
    cuda=driver(12040, ("NVIDIA GeForce RTX 3060", 8, 6)),
)

# nv_tegra_release, CUDA and TensorRT of 36.4.3: rbonghi/jetson_stats#603. compatible:
# ARK-Electronics/ark_jetson_kernel#60. Modes: almond-bot/axol#220, pythops/jetson-image#165.
ORIN_NANO = replace(
    PC,
    architecture="aarch64",
    kernel="5.15.148-tegra",
    python="3.10.12",
    memory_bytes=gib(7.4),
    free_memory_bytes=gib(5.5),
    clock_range_mhz=(729.6, 1728.0),
    files={
        "/etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.5 LTS"\nNAME="Ubuntu"\n',
        "/etc/nv_tegra_release": (
            "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
            "DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\n"
            "TARGET_USERSPACE_LIB_DIR=nvidia\n"
            "TARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia\n"
        ),
        "/proc/device-tree/model": (
            "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0"
        ),
        "/proc/device-tree/compatible": (
            "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0"
        ),
        "/etc/nvpmodel.conf": (
            "< PARAM TYPE=FILE NAME=CPU_ONLINE >\nCORE_0 /sys/devices/system/cpu/cpu0/online\n"
            "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=25W >\n"
            "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n< POWER_MODEL ID=3 NAME=7W >\n"
            "< PM_CONFIG DEFAULT=1 >\n"
        ),
        "/usr/local/cuda/include/cuda.h": "",
    },
    commands={
        "dpkg-query -W -f ${Version} nvidia-jetpack": Answer(0, "6.2+b77"),
        "nvcc --version": Answer(0, NVCC.format("12.6")),
        "/usr/local/cuda/bin/nvcc --version": Answer(0, NVCC.format("12.6")),
        "nvpmodel -q": Answer(0, "NV Power Mode: 15W\n0\n"),
        f"{SYSTEM_PYTHON} --version": Answer(0, "Python 3.10.12\n"),
    },
    imports=imports(**CPU, **CUDA, tensorrt="10.3.0"),
    system_imports={"gi": Answer(0, "3.42.1"), "tensorrt": Answer(0, "10.3.0")},
    # The plug-in brings the encoder's element on a board that has no encoder, too.
    gstreamer=elements(*SOFTWARE, *JETSON),
    cuda=driver(12060, ("Orin", 8, 7)),
)

# rbonghi/jetson_stats#763 (36.4.7 on this board) and #864 (model, compatible).
AGX_ORIN = replace(
    ORIN_NANO,
    clock_range_mhz=(2201.6, 2201.6),
    files=dict(ORIN_NANO.files)
    | {
        "/etc/nv_tegra_release": (
            "# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, EABI: aarch64\n"
        ),
        "/proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
        "/proc/device-tree/compatible": (
            "nvidia,p3737-0000+p3701-0000\0nvidia,p3701-0000\0nvidia,tegra234\0"
        ),
        "/etc/nvpmodel.conf": (
            "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=MODE_15W >\n"
            "< POWER_MODEL ID=2 NAME=MODE_30W >\n< POWER_MODEL ID=3 NAME=MODE_50W >\n"
        ),
    },
    commands=dict(ORIN_NANO.commands)
    | {
        "dpkg-query -W -f ${Version} nvidia-jetpack": Answer(0, "6.2.1+b38"),
        "nvpmodel -q": Answer(0, "NV Power Mode: MAXN\n0\n"),
    },
)

# rbonghi/jetson_stats#711; `nvpmodel -q`: anduril/jetpack-nixos#460.
THOR = replace(
    ORIN_NANO,
    kernel="6.8.12-tegra",
    python="3.12.3",
    memory_bytes=gib(122.8),
    free_memory_bytes=gib(110),
    clock_range_mhz=None,
    files=dict(AGX_ORIN.files)
    | {
        "/etc/os-release": 'PRETTY_NAME="Ubuntu 24.04.3 LTS"\n',
        "/etc/nv_tegra_release": (
            "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, "
            "DATE: Fri Aug 22 00:55:42 UTC 2025\n"
        ),
        "/proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
        "/proc/device-tree/compatible": (
            "nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0nvidia,tegra264\0"
        ),
    },
    commands={
        # the metapackage was not installed there, only nvidia-jetpack-dev
        "dpkg-query -W -f ${Version} nvidia-jetpack": Answer(
            1, err="dpkg-query: no packages found matching nvidia-jetpack\n"
        ),
        "nvcc --version": Answer(0, NVCC.format("13.0")),
        "nvpmodel -q": Answer(0, "NV Power Mode: MAXN\n0\n"),
        f"{SYSTEM_PYTHON} --version": Answer(0, "Python 3.12.3\n"),
    },
    imports=imports(**CPU, **{"pycuda.driver": "2025.1.2"}, tensorrt="10.13.3.9"),
    system_imports={"gi": Answer(0, "3.48.2"), "tensorrt": Answer(0, "10.13.3.9")},
    cuda=driver(13000, ("NVIDIA Thor", 11, 0)),
)

# nv_tegra_release of 32.7.1; model: NVIDIA-AI-IOT/jetcard#18; `nvpmodel -q` without sudo:
# NVIDIA-AI-IOT/jetbot#49. The distribution's Python is 3.6; this one was built by the user.
NANO = replace(
    ORIN_NANO,
    kernel="4.9.253-tegra",
    memory_bytes=gib(3.9),
    free_memory_bytes=gib(1.2),
    clock_range_mhz=None,
    files={
        "/etc/os-release": 'PRETTY_NAME="Ubuntu 18.04.6 LTS"\n',
        "/etc/nv_tegra_release": (
            "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64, "
            "DATE: Sat Feb 19 17:05:08 UTC 2022\n"
        ),
        "/proc/device-tree/model": "NVIDIA Jetson Nano Developer Kit\0",
        "/proc/device-tree/compatible": (
            "nvidia,p3449-0000-b00+p3448-0000-b00\0nvidia,jetson-nano\0nvidia,tegra210\0"
        ),
        "/etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=5W >\n",
    },
    commands={
        "/usr/local/cuda/bin/nvcc --version": Answer(0, NVCC.format("10.2")),
        "nvpmodel -q": Answer(
            0,
            "NV Power Mode: 5W\n1\n",
            "NVPM ERROR: Error opening /sys/kernel/nvpmodel_emc_cap/emc_iso_cap: 13\n",
        ),
        f"{SYSTEM_PYTHON} --version": Answer(0, "Python 3.6.9\n"),
    },
    imports=imports(cv2="4.10.0", numba="0.60.0", openvino="2024.6.0"),
    system_imports={"gi": Answer(0, "3.26.1"), "tensorrt": Answer(0, "8.2.1.8")},
    gstreamer=Answer(1, err="edge.errors.TwostreamError: GStreamer for Python is not installed"),
    cuda=driver(10020, ("NVIDIA Tegra X1", 5, 3)),
)

# rbonghi/jetson_stats#525
XAVIER_NX = replace(
    NANO,
    kernel="5.10.104-tegra",
    memory_bytes=gib(6.7),
    free_memory_bytes=gib(5),
    files=dict(NANO.files)
    | {
        "/etc/os-release": 'PRETTY_NAME="Ubuntu 20.04.6 LTS"\n',
        "/etc/nv_tegra_release": (
            "# R35 (release), REVISION: 3.1, GCID: 32827747, BOARD: t186ref, EABI: aarch64, "
            "DATE: Sun Mar 19 15:19:21 UTC 2023\n"
        ),
        "/proc/device-tree/model": "NVIDIA Jetson Xavier NX Developer Kit\0",
        "/proc/device-tree/compatible": (
            "nvidia,p3449-0000+p3668-0000\0nvidia,p3509-0000+p3668-0000\0nvidia,tegra194\0"
        ),
    },
    commands={
        "nvcc --version": Answer(0, NVCC.format("11.4")),
        f"{SYSTEM_PYTHON} --version": Answer(0, "Python 3.8.10\n"),
    },
    system_imports={"gi": Answer(0, "3.36.0"), "tensorrt": Answer(0, "8.5.2.2")},
    cuda=driver(11040, ("Xavier", 7, 2)),
)

# The board support package of a vendor without nvidia-l4t-dla-compiler: 4paradigm/phanthymotus#154.
THIN = replace(
    ORIN_NANO,
    files=dict(ORIN_NANO.files)
    | {
        "/etc/nv_tegra_release": (
            "# R36 (release), REVISION: 5.0, GCID: 43688277, BOARD: generic, EABI: aarch64\n"
        ),
        # An Orin NX on the carrier board of an Orin Nano.
        "/proc/device-tree/compatible": (
            "nvidia,p3768-0000+p3767-0000-super\0nvidia,p3767-0000\0nvidia,tegra234\0"
        ),
    },
    imports=imports(**CPU, **CUDA) | {"tensorrt": NVDLA},
    system_imports={"gi": Answer(0, "3.42.1"), "tensorrt": NVDLA},
)

# A container made for JetPack 6 on JetPack 7.2: Jonah-May-OSS/wyoming-whisper-trt#1038; the release
# and kernel of 7.2: rbonghi/jetson_stats#864. Docker hides the device tree.
OLD_CONTAINER = replace(
    THIN,
    kernel="6.8.12-1021-tegra",
    memory_bytes=gib(7.4),
    free_memory_bytes=gib(5),
    clock_range_mhz=None,
    files={
        "/.dockerenv": "",
        "/etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
        "/etc/nv_tegra_release": ORIN_NANO.files["/etc/nv_tegra_release"],
    },
    commands={f"{SYSTEM_PYTHON} --version": Answer(0, "Python 3.10.12\n")},
    gstreamer=elements(*SOFTWARE),
)

MACHINES = {
    "PC": PC,
    "PC without nvcc": PC_WITHOUT_NVCC,
    "Orin Nano": ORIN_NANO,
    "AGX Orin": AGX_ORIN,
    "Thor": THOR,
    "Nano": NANO,
    "Xavier NX": XAVIER_NX,
    "thin support package": THIN,
    "old container": OLD_CONTAINER,
}


def checked(machine: Machine) -> Mapping[str, Check]:
    return {check.name: check for check in run_checks(machine)}


def without(machine: Machine, *commands: str, **answers: Answer) -> Machine:
    """`machine` without some commands, and with these imports instead."""
    left = {name: a for name, a in machine.commands.items() if name not in commands}
    return replace(machine, commands=left, imports=dict(machine.imports) | answers)
