"""Checks the machine: board, release, power mode, clocks, memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatch

from edge.commands.doctor.check import Check
from edge.commands.doctor.machine import PCI_VENDORS, Machine

ENGINE_BUILD_GB = 2.0

_JETPACK_OF_L4T = {32: 4, 34: 5, 35: 5, 36: 6, 38: 7, 39: 7}
_JETPACK_OF_KERNEL = {"4.9": 4, "5.10": 5, "5.15": 6, "6.8": 7}
_NVIDIA_PCI = "0x10de"


@dataclass(frozen=True, slots=True)
class Board:
    """A Jetson. chip: tegra234 and the like, "" if the device tree is hidden.

    l4t: release of its base system, such as "36.4.3"; jetpack: its major version. In a container
    these may be the image's. host_jetpack: of the board itself.
    """

    model: str
    chip: str
    l4t: str
    jetpack: int | None
    host_jetpack: int | None
    orin_nano: bool

    @property
    def has_nvenc(self) -> bool:
        return not self.orin_nano

    @property
    def has_dla(self) -> bool:
        return self.chip in ("tegra194", "tegra234") and not self.orin_nano


def jetson(machine: Machine) -> Board | None:
    """The board, or None on a PC."""
    release = re.search(
        r"# R(\d+) \(release\), REVISION: ([\d.]+)", machine.read("/etc/nv_tegra_release")
    )
    if release is None and "tegra" not in machine.kernel:
        return None
    compatible = machine.read("/proc/device-tree/compatible")
    chip = re.search(r"tegra\d{3}", compatible)
    model = machine.read("/proc/device-tree/model").strip("\0\n ")
    # The model is of the carrier board, and may be Orin Nano with an Orin NX on it. The part number
    # is of the module: p3767-0003 ... 0005 are the Orin Nano.
    part = re.search(r"p3767-000(\d)", compatible)
    jetpack = _JETPACK_OF_L4T.get(int(release[1])) if release else None
    # In a container the kernel is still the board's; outside it may be a custom one.
    kernel = re.match(r"\d+\.\d+", machine.kernel) if machine.in_container else None
    return Board(
        model=model or "NVIDIA Jetson",
        chip=chip[0] if chip else "",
        l4t=f"{release[1]}.{release[2]}" if release else "",
        jetpack=jetpack,
        host_jetpack=_JETPACK_OF_KERNEL.get(kernel[0] if kernel else "", jetpack),
        orin_nano=part[1] in "345" if part else "Orin Nano" in model,
    )


def has_gpu(machine: Machine) -> bool:
    """Whether there is an NVIDIA GPU, with or without a driver."""
    return (
        jetson(machine) is not None
        or bool(machine.driver.get("gpus"))
        or any(
            machine.files[path].strip() == _NVIDIA_PCI
            for path in machine.files
            if fnmatch(path, PCI_VENDORS)
        )
    )


def describe(machine: Machine) -> str:
    """One line about the machine."""
    board = jetson(machine)
    system = re.search(r'^PRETTY_NAME="?([^"\n]*)', machine.read("/etc/os-release"), re.MULTILINE)
    parts = [
        board.model if board else "PC",
        system[1] if system else "Linux",
        machine.architecture,
        f"Python {machine.python}",
        "in a container" if machine.in_container else "",
    ]
    return ", ".join(part for part in parts if part)


def check_jetpack(machine: Machine) -> Check:
    board = jetson(machine)
    if board is None:
        return Check("JetPack", "not on this board", "this is no Jetson")
    package = machine.output("dpkg-query -W -f ${Version} nvidia-jetpack").partition("+")[0]
    version = package or (str(board.jetpack) if board.jetpack else "")
    if not version:
        return Check("JetPack", "note", f"an unknown release, L4T {board.l4t or 'unknown'}")
    detail = f"{version} (L4T {board.l4t or 'unknown'})"
    if board.host_jetpack != board.jetpack:
        detail = f"{detail} in this container, on a board with JetPack {board.host_jetpack}"
        return Check("JetPack", "note", detail)
    return Check("JetPack", "ok", detail)


def check_power(machine: Machine) -> Check:
    """Check the power mode, by name, since its number differs between boards.

    On an Orin Nano with JetPack 6.2, mode 0 is 15W and MAXN_SUPER is 2.
    """
    name = "power mode"
    if jetson(machine) is None:
        return Check(name, "not on this board", "this is no Jetson")
    answer = machine.commands.get("nvpmodel -q")
    mode = parse_power_mode(answer.out) if answer else None
    if mode is None:
        where = " on the board, outside of this container" if machine.in_container else ""
        return Check(name, "note", "unknown", f"see `sudo nvpmodel -q`{where}")
    fastest, number = _fastest_mode(machine.read("/etc/nvpmodel.conf"))
    if mode == fastest or mode.startswith("MAXN"):
        return Check(name, "ok", mode)
    meaning = f"{mode}, which limits cores and clocks; {fastest} is the fastest"
    return Check(name, "note", meaning, f"`sudo nvpmodel -m {number}`")


def parse_power_mode(answer: str) -> str | None:
    """The mode's name in the output of `nvpmodel -q`; None if there is none."""
    mode = re.search(r"NV Power Mode: *(\S+)", answer)
    return mode[1] if mode else None


def _fastest_mode(configuration: str) -> tuple[str, int]:
    """Name and number of the fastest mode: MAXN_SUPER, else MAXN, else the one with most watts."""
    modes = {
        name: int(number)
        for number, name in re.findall(r"< *POWER_MODEL +ID=(\d+) +NAME=(\S+) *>", configuration)
    }
    for name in ("MAXN_SUPER", "MAXN"):
        if name in modes:
            return name, modes[name]
    watts = {int(w[1]): name for name in modes if (w := re.search(r"(\d+)W", name))}
    if not watts:
        return "MAXN", 0
    return watts[max(watts)], modes[watts[max(watts)]]


def check_clocks(machine: Machine) -> Check:
    """`jetson_clocks` sets the lowest clock to the highest."""
    if jetson(machine) is None:
        return Check("clocks", "not on this board", "this is no Jetson")
    if machine.clock_range_mhz is None:
        return Check("clocks", "note", "unknown", "see `sudo jetson_clocks --show`")
    lowest, highest = machine.clock_range_mhz
    if lowest == highest:
        return Check("clocks", "ok", "fixed at the maximum of the power mode")
    return Check(
        "clocks",
        "note",
        "they follow the load, so that times vary; to fix them until the next reboot",
        "`sudo jetson_clocks`",
    )


def check_memory(machine: Machine) -> Check:
    """Check free memory. A Jetson's GPU shares it with the CPU and cannot use swap."""
    free_gb, total_gb = (n / (1 << 30) for n in (machine.free_memory_bytes, machine.memory_bytes))
    amount = f"{free_gb:.1f} of {total_gb:.1f} GB"
    if free_gb >= ENGINE_BUILD_GB:
        return Check("free memory", "ok", amount)
    return Check(
        "free memory",
        "note",
        f"{amount}; building an engine needs about {ENGINE_BUILD_GB:g} GB",
        "close other programs, and the desktop by `sudo systemctl isolate multi-user.target`",
    )
