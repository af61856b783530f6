"""What tells one processor from another, so that what was found out on one is not believed on
another: a home folder may be shared, a virtual machine may move."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
from pathlib import Path

# what differs from core to core, and from moment to moment
_VOLATILE = (
    *("processor", "cpu MHz", "physical id", "core id", "apicid", "initial apicid"),
    *("siblings", "cpu cores", "bogomips", "BogoMIPS"),
)
_AT_HWCAP, _AT_HWCAP2 = 16, 26  # of getauxval: what the kernel, or an emulator, lets programs use
_SETTINGS = ("ONEDNN_", "DNNL_", "OV_")  # of the environment: they choose among OpenVINO's kernels


def processor() -> str:
    """A short digest of this processor and of the settings that limit it."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        first = ""
    lines = [line for line in first.splitlines() if line.split("\t")[0].strip() not in _VOLATILE]
    auxiliary = ctypes.CDLL(None).getauxval
    auxiliary.restype, auxiliary.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
    lines += [platform.machine(), str(auxiliary(_AT_HWCAP)), str(auxiliary(_AT_HWCAP2))]
    lines += sorted(f"{k}={v}" for k, v in os.environ.items() if k.startswith(_SETTINGS))
    return "processor " + hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
