"""The report: the machine, a line for each check, and the devices that can run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rich.text import Text

from edge.commands.doctor import board, gpu, networks, python, video
from edge.commands.doctor.check import BOTH, Check, DeviceName, with_load_order
from edge.commands.doctor.machine import Machine, look_at_machine
from edge.terminal import LineConsole
from edge.text import printable

# In the order in which to fix faults.
CHECKS: tuple[Callable[[Machine], Check], ...] = (
    board.check_jetpack,
    python.check_environment,
    python.check_opencv,
    video.check_gstreamer,
    video.check_elements,
    video.check_decoder,
    video.check_encoder,
    python.check_numba,
    python.check_openvino,
    python.check_web,
    networks.check_networks,
    gpu.check_driver,
    gpu.check_tensorrt,
    gpu.check_toolkit,
    gpu.check_pycuda,
    video.check_nvdec,
    video.check_nvenc,
    video.check_csi,
    gpu.check_dla,
    board.check_power,
    board.check_clocks,
    board.check_memory,
)

_STYLES = {"ok": "green", "missing": "bold red", "note": "yellow", "not on this board": "dim"}
_STATUS_WIDTH = max(map(len, _STYLES))
_NAME_WIDTH = 18


def run_checks(machine: Machine) -> list[Check]:
    return [with_load_order(check(machine)) for check in CHECKS]


def usable_devices(checks: Iterable[Check]) -> list[DeviceName]:
    """The devices that can run a bundle."""
    every = list(checks)
    return [device for device in BOTH if not any(check.stops(device) for check in every)]


def summarise(checks: Sequence[Check]) -> str:
    """Which devices can run a bundle, and the first fix for the others."""
    usable = usable_devices(checks)
    parts = [f"{' and '.join(usable)} can run a bundle"] if usable else []
    for device in BOTH:
        stops = [check for check in checks if check.stops(device)]
        absent = next((check for check in stops if check.status == "not on this board"), None)
        if absent:
            parts.append(f"{device} cannot on this board ({absent.name}: {absent.detail})")
        elif stops:
            parts.append(f"{device} cannot yet, first {stops[0].name}: {stops[0].remedy}")
    return f"devices: {'; '.join(parts)}"


def doctor() -> int:
    """Print the report; returns 0 if a device can run a bundle, else 1."""
    machine = look_at_machine()
    checks = run_checks(machine)
    console = LineConsole()
    lines = [Text(printable(board.describe(machine)))]
    for check in checks:
        line = Text(check.status.ljust(_STATUS_WIDTH), style=_STYLES[check.status])
        lines.append(
            line.append(printable(f"  {check.name:{_NAME_WIDTH}}  {check.text}"), style="default")
        )
    lines.append(Text(printable(summarise(checks))))
    for line in lines:
        console.print(line, soft_wrap=True)  # soft_wrap: a line stays a line where it is piped
    return 0 if usable_devices(checks) else 1
