"""Clocks, power mode, temperature and power while something runs, as far as the machine tells.

Linux's own files: cpufreq, thermal zones, hwmon (the INA3221 of a Jetson), powercap (RAPL). Tests
read copies of such files; on a Jetson it has not been run.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.commands.doctor.board import parse_power_mode

_PERIOD_S = 1.0


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def power_mode() -> str | None:
    """The name of a Jetson's power mode; None elsewhere."""
    if not shutil.which("nvpmodel"):
        return None
    done = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, check=False)
    return parse_power_mode(done.stdout)


def clocks_mhz(root: Path) -> list[float]:
    """Of each core, now."""
    paths = sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"))
    return [value / 1e3 for path in paths if (value := _number(path)) is not None]


def temperature_c(root: Path) -> float | None:
    """Of the hottest zone; zones that are off read 0 or less."""
    zones = [_number(path) for path in root.glob("sys/class/thermal/thermal_zone*/temp")]
    known = [zone / 1e3 for zone in zones if zone is not None and zone > 0]
    return max(known) if known else None


def board_power_w(root: Path) -> float | None:
    """What a Jetson's INA3221 measures at the rail that feeds the board, VDD_IN."""
    for label in sorted(root.glob("sys/class/hwmon/hwmon*/in*_label")):
        if _text(label) != "VDD_IN":
            continue
        channel = label.name.removeprefix("in").removesuffix("_label")
        millivolts = _number(label.with_name(f"in{channel}_input"))
        milliamperes = _number(label.with_name(f"curr{channel}_input"))
        if millivolts is not None and milliamperes is not None:
            return millivolts * milliamperes / 1e6
    return None


def package_energy_j(root: Path) -> float | None:
    """RAPL's counter of all processor packages; None if it may not be read."""
    zones = root.glob("sys/class/powercap/intel-rapl:[0-9]*")
    paths = [zone / "energy_uj" for zone in zones if zone.name.count(":") == 1]
    values = [_number(path) for path in paths]
    known = [value / 1e6 for value in values if value is not None]
    return sum(known) if known else None


@dataclass
class Sensors:
    """with Sensors() as sensors: ...; sensors.report()

    root: whose files are read.
    """

    root: Path = Path("/")
    _clocks: list[float] = field(default_factory=list)
    _temperatures: list[float] = field(default_factory=list)
    _powers: list[float] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _energy_j: float | None = None

    def __enter__(self) -> Sensors:
        self._energy_j, self._began_s = package_energy_j(self.root), time.monotonic()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *fault: object) -> None:
        self._over.set()
        self._thread.join()
        seconds = time.monotonic() - self._began_s
        after = package_energy_j(self.root)
        # the counter wraps after some minutes of full load
        if self._energy_j is not None and after is not None and after > self._energy_j:
            self._powers = self._powers or [(after - self._energy_j) / seconds]

    def _sample(self) -> None:
        while True:
            if clocks := clocks_mhz(self.root):
                self._clocks.append(sum(clocks) / len(clocks))
            if (degrees := temperature_c(self.root)) is not None:
                self._temperatures.append(degrees)
            if (watts := board_power_w(self.root)) is not None:
                self._powers.append(watts)
            if self._over.wait(_PERIOD_S):
                return

    def report(self) -> dict[str, Any]:
        """None for what this machine does not tell."""

        def mean(values: list[float]) -> float | None:
            return round(sum(values) / len(values), 2) if values else None

        return {
            "power_mode": power_mode(),
            "clock_mhz": mean(self._clocks),
            "temperature_c": max(self._temperatures, default=None),
            "power_w": mean(self._powers),
        }
