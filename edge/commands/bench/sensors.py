"""Clocks, power mode, temperature and power during a measurement, as far as the machine tells.

psutil reads clocks and temperatures. Power comes from the INA3221 of a Jetson or from RAPL, which
psutil does not read. Not tested on a Jetson; tests read copies of its files.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from edge.commands.doctor.board import parse_power_mode

_PERIOD_S = 1.0


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def power_mode() -> str | None:
    """The name of a Jetson's power mode; None elsewhere."""
    if not shutil.which("nvpmodel"):
        return None
    done = subprocess.run(
        ["nvpmodel", "-q"], capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    return parse_power_mode(done.stdout)


def temperature_c() -> float | None:
    """The hottest sensor, in degrees Celsius; sensors that are off read 0 or less."""
    sensors = [sensor.current for chip in psutil.sensors_temperatures().values() for sensor in chip]
    return max((degrees for degrees in sensors if degrees > 0), default=None)


def board_power_w(root: Path) -> float | None:
    """The power of a Jetson's supply rail, VDD_IN, measured by its INA3221."""
    for label in sorted(root.glob("sys/class/hwmon/hwmon*/in*_label")):
        if label.read_text(encoding="utf-8").strip() != "VDD_IN":
            continue
        channel = label.name.removeprefix("in").removesuffix("_label")
        millivolts = _number(label.with_name(f"in{channel}_input"))
        milliamperes = _number(label.with_name(f"curr{channel}_input"))
        if millivolts is not None and milliamperes is not None:
            return millivolts * milliamperes / 1e6
    return None


def package_energy_j(root: Path) -> float | None:
    """RAPL's energy counter, summed over all CPU packages; None if it cannot be read."""
    zones = root.glob("sys/class/powercap/intel-rapl:[0-9]*")
    values = [_number(zone / "energy_uj") for zone in zones if zone.name.count(":") == 1]
    known = [value / 1e6 for value in values if value is not None]
    return sum(known) if known else None


@dataclass
class Sensors:
    """with Sensors() as sensors: ...; sensors.report()

    root: the folder whose `sys` is read for power.
    """

    root: Path = Path("/")
    _clocks_mhz: list[float] = field(default_factory=list)
    _temperatures_c: list[float] = field(default_factory=list)
    _powers_w: list[float] = field(default_factory=list)
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
        energy_j = package_energy_j(self.root)
        # the counter wraps after some minutes of full load
        if self._energy_j is not None and energy_j is not None and energy_j > self._energy_j:
            self._powers_w = self._powers_w or [(energy_j - self._energy_j) / seconds]

    def _sample(self) -> None:
        while True:
            if clock := psutil.cpu_freq():  # mean of all cores
                self._clocks_mhz.append(clock.current)
            if (degrees := temperature_c()) is not None:
                self._temperatures_c.append(degrees)
            if (watts := board_power_w(self.root)) is not None:
                self._powers_w.append(watts)
            if self._over.wait(_PERIOD_S):
                return

    def report(self) -> dict[str, Any]:
        """Mean clock and power, highest temperature; None for what this machine does not report."""

        def mean(values: list[float]) -> float | None:
            return round(sum(values) / len(values), 2) if values else None

        return {
            "power_mode": power_mode(),
            "clock_mhz": mean(self._clocks_mhz),
            "temperature_c": max(self._temperatures_c, default=None),
            "power_w": mean(self._powers_w),
        }
