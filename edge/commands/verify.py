"""`twostream verify`: does this device give what the bundle's maker measured?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from edge.bundle.manifest import Bundle, load_bundle
from edge.bundle.parity import load_parity
from edge.commands.self_check.choice import faults_named, find_out
from edge.commands.self_check.findings import Finding
from edge.commands.self_check.parity import check_device
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
    run = load_parity(bundle)
    found: list[Finding] = []

    def choose(name: DeviceName, bundle: Bundle, ways: Sequence[Way]) -> Way:
        found.append(find_out(name, bundle, ways))
        return next(way for way in ways if way.name == found[-1].way)

    with closing(open_device(device_name, bundle, flow_wanted=True, choose=choose)) as device:
        finding = found[-1]
        with faults_named(finding.device, bundle):
            lines = check_device(bundle, run, device)
    if finding.reason:
        lines.append(f"the networks run as {finding.way}; {finding.reason}")
    return [*lines, f"the bundle is right on {device.description}"]
