"""Shows which way of computing networks was found to be right on this device."""

from __future__ import annotations

from edge.commands.doctor.check import Check
from edge.commands.doctor.machine import Machine


def check_networks(machine: Machine) -> Check:
    """The newest finding about each bundle and device."""
    name = "networks"
    newest = {
        (finding.bundle, finding.device): finding for finding in reversed(machine.findings)
    }.values()
    if not newest:
        return Check(name, "note", "no bundle was checked here yet", "`twostream verify BUNDLE`")
    texts = [
        f"{finding.bundle} on {finding.device}: {finding.way or 'no way is right'}"
        + (f" ({finding.reason})" if finding.reason else " is right")
        for finding in newest
    ]
    as_first = all(not finding.reason for finding in newest)
    return Check(name, "ok" if as_first else "note", "; ".join(texts))
