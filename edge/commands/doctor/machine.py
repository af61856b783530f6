"""Collects the facts about a machine that the checks use.

Everything that could hang or crash runs in a separate process, since a broken library ends the
process that loads it. What loads alone may not load beside others, so those that did are loaded
once more in one process.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from edge.commands.doctor.elements import ELEMENTS
from edge.commands.self_check.findings import Finding, findings
from edge.devices.cuda.kernels.precompiled import precompiled_targets

SYSTEM_PYTHON = "/usr/bin/python3"

FILES = (
    "/etc/nv_tegra_release",
    "/etc/nvpmodel.conf",
    "/etc/os-release",
    "/proc/device-tree/compatible",
    "/proc/device-tree/model",
)
# Only their existence matters: the signs of a container, and a header.
MARKS = ("/.dockerenv", "/run/.containerenv", "/usr/local/cuda/include/cuda.h")
PYTHON_HEADER = "Python.h"  # of this Python, wherever it is
PCI_VENDORS = "/sys/bus/pci/devices/*/vendor"
COMMANDS = (
    "dpkg-query -W -f ${Version} nvidia-jetpack",
    "g++ --version",
    "nvcc --version",
    "nvcc --list-gpu-code",
    "/usr/local/cuda/bin/nvcc --version",
    "/usr/local/cuda/bin/nvcc --list-gpu-code",
    "nvpmodel -q",
    f"{SYSTEM_PYTHON} --version",
)
MODULES = (
    *("aiohttp", "cv2", "gi", "numba", "openvino", "prometheus_client", "pycuda.driver"),
    "tensorrt",
)
SYSTEM_MODULES = ("gi", "tensorrt")  # from the distribution, outside of any environment

_FILE_MAX_BYTES = 1 << 20
_WAIT_S = 60.0  # GStreamer's first scan of its plug-ins takes seconds, on a board more

# The distribution's Python may be as old as 3.6, which has no importlib.metadata.
_IMPORT = """
import importlib, sys
name = sys.argv[1]
importlib.import_module(name)
top = name.partition(".")[0]
version = getattr(sys.modules[top], "__version__", None)
print(version or importlib.import_module("importlib.metadata").version(top))
"""
_TOGETHER = """
import importlib, json
import_faults = {}
for name in sys.argv[1].split():
    try:
        importlib.import_module(name)
    except Exception as fault:
        import_faults[name] = f"{type(fault).__name__}: {fault}"
from edge.errors import TwostreamError
from edge.video.gstreamer import load_fault, load_gstreamer
Gst = load_gstreamer(TwostreamError).Gst
factories = Gst.Registry.get().get_feature_list(Gst.ElementFactory)
found = {
    "version": ".".join(map(str, Gst.version()[:3])),
    "elements": [each.get_name() for each in factories],
    "element_faults": {name: load_fault(name) for name in sys.argv[2].split()},
    "import_faults": import_faults,
}
print(json.dumps(found))
"""
# The driver interface itself, without pycuda. 75 and 76: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_CUDA = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
fault, version, count, number = cuda.cuInit(0), ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
cuda.cuDriverGetVersion(ctypes.byref(version))
gpus = []
if fault == 0:
    cuda.cuDeviceGetCount(ctypes.byref(count))
for index in range(count.value):
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, 256, device)
    capability = []
    for attribute in (75, 76):
        cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
        capability.append(number.value)
    gpus.append([name.value.decode(errors="replace"), *capability])
print(json.dumps({"fault": fault, "version": version.value, "gpus": gpus}))
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """The output of a command. code: negative if a signal ended it."""

    code: int
    out: str = ""
    err: str = ""

    @property
    def fault(self) -> str:
        """The last line of its errors, or how it ended."""
        lines = self.err.strip().splitlines()
        if self.code < 0:
            return f"crashes (signal {-self.code})"
        if not lines:
            return f"ends with code {self.code}"
        return re.sub(r"^[\w.]+Error: ", "", lines[-1].strip())


@dataclass(frozen=True, slots=True)
class Machine:
    """What was seen. Files and commands that do not exist are absent from their mappings.

    imports: for each of MODULES, in this environment; `out` is its version. system_imports: the
    same of SYSTEM_MODULES in the distribution's own Python. gstreamer: its version, its elements
    and why some do not load, as JSON. cuda: what the driver library reports, as JSON.
    clock_range_mhz: lowest and highest clock of the first core; None: unknown. kernels: the targets
    of those that this package has compiled. findings: about bundles, the newest first.
    """

    architecture: str
    kernel: str
    python: str
    prefix: str
    memory_bytes: int
    free_memory_bytes: int
    clock_range_mhz: tuple[float, float] | None
    files: Mapping[str, str]
    commands: Mapping[str, Answer]
    imports: Mapping[str, Answer]
    system_imports: Mapping[str, Answer]
    gstreamer: Answer
    cuda: Answer
    kernels: frozenset[str] = frozenset()
    findings: tuple[Finding, ...] = ()

    def read(self, path: str) -> str:
        """A file's text, or nothing."""
        return self.files.get(path, "")

    def output(self, command: str) -> str:
        """What a command printed, or nothing where it is absent or failed."""
        answer = self.commands.get(command)
        return answer.out if answer and answer.code == 0 else ""

    @property
    def in_container(self) -> bool:
        return "/.dockerenv" in self.files or "/run/.containerenv" in self.files

    @property
    def elements(self) -> frozenset[str]:
        """The GStreamer elements that are installed and load."""
        return frozenset(_parse(self.gstreamer).get("elements", ())) - self.element_faults.keys()

    @property
    def element_faults(self) -> dict[str, str]:
        """Why installed elements do not load."""
        faults = _parse(self.gstreamer).get("element_faults", {})
        return {name: fault for name, fault in faults.items() if fault}

    @property
    def gstreamer_version(self) -> str | None:
        version: str | None = _parse(self.gstreamer).get("version")
        return version

    @property
    def driver(self) -> dict[str, Any]:
        """`fault`, `version` and `gpus` [[name, major, minor]]; empty without a driver library."""
        return _parse(self.cuda)


def look_at_machine() -> Machine:
    """Collect all facts; takes some seconds."""
    files = {path: text for path in FILES if (text := _read(Path(path))) is not None}
    files |= {path: "" for path in MARKS if Path(path).exists()}
    if Path(sysconfig.get_path("include"), PYTHON_HEADER).exists():
        files[PYTHON_HEADER] = ""
    for vendor in sorted(Path("/").glob(PCI_VENDORS.removeprefix("/"))):
        files[str(vendor)] = _read(vendor) or ""
    queries: dict[str, list[str]] = {command: command.split() for command in COMMANDS}
    queries |= {f"import {name}": [sys.executable, "-c", _IMPORT, name] for name in MODULES}
    queries |= {f"system {name}": [SYSTEM_PYTHON, "-c", _IMPORT, name] for name in SYSTEM_MODULES}
    queries |= {"cuda": [sys.executable, "-c", _CUDA]}
    with ThreadPoolExecutor(4) as pool:
        answers = dict(zip(queries, pool.map(_ask, queries.values()), strict=True))
    answers_by_name = {name: answer for name, answer in answers.items() if answer is not None}
    imports = {name: answers_by_name[f"import {name}"] for name in MODULES}
    gstreamer = _load_together(imports)
    faults = _parse(gstreamer).get("import_faults", {})
    imports |= {name: Answer(1, err=fault) for name, fault in faults.items() if name in imports}
    memory = psutil.virtual_memory()
    return Machine(
        architecture=platform.machine(),
        kernel=platform.release(),
        python=platform.python_version(),
        prefix=sys.prefix,
        memory_bytes=memory.total,
        free_memory_bytes=memory.available,
        clock_range_mhz=_clock_range_mhz(),
        files=files,
        commands={name: answers_by_name[name] for name in COMMANDS if name in answers_by_name},
        imports=imports,
        system_imports={
            name: answers_by_name[f"system {name}"]
            for name in SYSTEM_MODULES
            if f"system {name}" in answers_by_name
        },
        gstreamer=gstreamer,
        cuda=answers_by_name["cuda"],
        kernels=precompiled_targets(),
        findings=tuple(findings()),
    )


def _load_together(imports: Mapping[str, Answer]) -> Answer:
    """GStreamer's answer in a process that has loaded what a run has before it opens a camera: the
    run's own modules, then those of its device. Without those that do not load even alone."""

    def load(*names: str) -> bool:
        return all(imports[name].code == 0 for name in names)

    modules = ["edge.commands.run.run"] if load("numba", "cv2") else []
    if load("pycuda.driver", "tensorrt"):
        modules += ["pycuda.driver", "tensorrt"]
    elif load("openvino"):
        modules += ["openvino"]
    # edge is found as in this process, installed or not.
    here = str(Path(__file__).resolve().parents[3])
    script = f"import sys; sys.path.insert(0, {here!r})\n{_TOGETHER}"
    answer = _ask([sys.executable, "-c", script, " ".join(modules), " ".join(ELEMENTS)])
    return answer or Answer(127)


def _clock_range_mhz() -> tuple[float, float] | None:
    first_core = next(iter(psutil.cpu_freq(percpu=True) or ()), None)
    return (first_core.min, first_core.max) if first_core and first_core.max else None


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_MAX_BYTES)
    except OSError:
        return None
    return data.decode(errors="replace")


def _ask(command: list[str]) -> Answer | None:
    """Run a command; None if there is no such command."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_WAIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Answer(124, err=f"no answer within {_WAIT_S:g} s")
    except OSError:
        return None
    return Answer(done.returncode, done.stdout, done.stderr)


def _parse(answer: Answer) -> dict[str, Any]:
    try:
        # the last line, since a library may print something while it is loaded
        parsed = json.loads(answer.out.splitlines()[-1]) if answer.code == 0 else {}
    except (ValueError, IndexError):
        return {}
    return parsed if isinstance(parsed, dict) else {}
