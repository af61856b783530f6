"""`twostream verify`: does this device give what the bundle's maker measured?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from edge.bundle.manifest import Bundle, load_bundle
from edge.bundle.parity import load_parity
from edge.commands.self_check.choice import faults_named, find_out
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
    reason: list[str] = []
    chosen: list[DeviceName] = []

    def choose(name: DeviceName, bundle: Bundle, ways: Sequence[Way]) -> Way:
        finding = find_out(name, bundle, ways)
        chosen[:] = [name]
        reason[:] = (
            [f"the networks run as {finding.way}; {finding.reason}"] if finding.reason else []
        )
        return next(way for way in ways if way.name == finding.way)

    with closing(open_device(device_name, bundle, flow_wanted=True, choose=choose)) as device:
        with faults_named(chosen[0], bundle):
            lines = check_device(bundle, run, device)
    return [*lines, *reason, f"the bundle is right on {device.description}"]
