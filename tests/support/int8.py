"""INT8 on the processor of the tests, computed in a way that is right."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

from edge.bundle.manifest import Bundle
from edge.devices import DeviceName
from edge.devices.inference import Way
from edge.devices.openvino import INT8, LITERAL


def right_int8() -> Way:
    """The kernels of OpenVINO, or INT8 in float on x86 without VNNI, where they saturate."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return INT8 if platform.machine() != "x86_64" or "vnni" in flags else LITERAL


def choose_right_int8(name: DeviceName, bundle: Bundle, ways: Sequence[Way]) -> Way:
    """To be `choose` of `open_device`."""
    return right_int8()
