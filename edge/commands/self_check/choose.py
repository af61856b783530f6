"""Takes the fastest of a device's ways that is right, as its own process has found it to be."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from edge.bundle.manifest import Bundle
from edge.commands.self_check.ask import Tried, try_ways
from edge.commands.self_check.memory import Finding, new_key, recall, remember
from edge.devices import DeviceName, take_literal
from edge.devices.inference import Way
from edge.errors import BundleError, DeviceError

logger = logging.getLogger(__name__)


def choose_way(name: DeviceName, bundle: Bundle, ways: Sequence[Way]) -> Way:
    """See edge.devices.Choose: the fastest way that gives the bundle's parity samples, found out
    once. Says which, unless it is the first.

    Raises DeviceError if no way is right, BundleError if the bundle itself cannot be used.
    """
    if bundle.schema < 3:
        way = take_literal(name, bundle, ways)
        logger.warning(
            "%s: cannot be checked on this device, its parity samples are of schema %d; its "
            "networks run as %s; export it again",
            bundle.path,
            bundle.schema,
            way.name,
        )
        return way
    by_name = {way.name: way for way in ways}
    key, _ = new_key(name, bundle, list(by_name))
    finding = recall(key)
    if finding is None or finding.way not in by_name:
        finding = find_out(name, bundle, ways)
    if finding.reason:
        logger.warning("the networks run as %s; %s", finding.way, finding.reason)
    return by_name[finding.way]


def find_out(name: DeviceName, bundle: Bundle, ways: Sequence[Way]) -> Finding:
    """Try the ways now, and remember what came of it. Raises as `choose_way` does."""
    logger.debug("checking device %s with the parity samples of %s", name, bundle.path)
    tried = try_ways(name, bundle, ways)
    best = next((each for each in reversed(tried) if each.fault is None), None)
    if best is None:
        if all(each.of_bundle for each in tried):  # no way can load it
            raise BundleError(str(tried[0].fault))
        raise DeviceError(
            f"{bundle.path}: device {name} is not right: {_faults(tried)}; do not use this bundle "
            "here, and report the device"
        )
    earlier = tried[: tried.index(best)]
    wrong = [each for each in earlier if each.fault is not None]
    reason = _faults(wrong) if wrong else _times(best, earlier)
    # anew, for building engines has changed what computes
    key, what = new_key(name, bundle, [way.name for way in ways])
    finding = Finding(
        version=1,
        key=key,
        bundle=bundle.manifest.name,
        device=name,
        identity=what,
        way=best.way.name,
        reason=reason,
        lines=best.lines,
    )
    if all(each.lasting for each in wrong):
        remember(finding)
    return finding


def _faults(tried: Sequence[Tried]) -> str:
    """Why these ways are not right, each reason once."""
    names: dict[str, list[str]] = {}
    for each in tried:
        names.setdefault(str(each.fault), []).append(each.way.name)
    return "; ".join(f"{', '.join(ways)}: {fault}" for fault, ways in names.items())


def _times(best: Tried, earlier: Sequence[Tried]) -> str:
    """How much faster it is than the ways that come first; nothing where there are none."""
    if not earlier:
        return ""
    times_ms = [f"{sum(each.networks_ms.values()):.1f} ms" for each in (best, *earlier)]
    others = zip(earlier, times_ms[1:], strict=True)
    return f"it takes {times_ms[0]}, " + ", ".join(f"{each.way.name} {ms}" for each, ms in others)
