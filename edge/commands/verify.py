"""`twostream verify`: does this device give what the bundle's maker measured?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge.bundle.manifest import Bundle, load_bundle
from edge.bundle.parity import load_parity
from edge.commands.self_check.choose import find_out
from edge.devices import DeviceName, open_device
from edge.devices.inference import Way


def verify(path: Path, device_name: str) -> list[str]:
    """Check a bundle on a device, whatever was found out earlier; returns one line for each motion
    method and each stream, and which of the device's ways is right.

    Raises DeviceError if none is.
    """
    bundle = load_bundle(path)
    for name in bundle.manifest.files:
        bundle.read(name)
    load_parity(bundle)
    lines: list[str] = []

    def choose(name: DeviceName, bundle: Bundle, ways: Sequence[Way]) -> Way:
        finding = find_out(name, bundle, ways)
        lines.extend(finding.lines)
        if finding.reason:
            lines.append(f"the networks run as {finding.way}; {finding.reason}")
        return next(way for way in ways if way.name == finding.way)

    device = open_device(device_name, bundle, choose=choose)
    device.close()
    return [*lines, f"the bundle is right on {device.description}"]
