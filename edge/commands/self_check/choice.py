"""Takes the first of a device's ways that is right, as another process has found it to be."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from edge.bundle.manifest import Bundle
from edge.commands.self_check.findings import Finding, new_key, recall, remember
from edge.commands.self_check.trials import Tried, try_ways
from edge.devices import DeviceName, take_literal
from edge.devices.inference import Way
from edge.errors import BundleError, DeviceError

logger = logging.getLogger(__name__)


def choose_way(
    name: DeviceName, bundle: Bundle, ways: Sequence[Way], only_known: bool = False
) -> Way:
    """See edge.devices.Choose: the first way that gives the bundle's parity samples, found out
    once. Says which, unless it is the first of all. only_known: it must have been found out before,
    since that takes long.

    Raises DeviceError if no way is right or known, BundleError if the bundle itself cannot be used.
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
    if finding is None or finding.way not in (None, *by_name):
        if only_known:
            raise DeviceError(
                f"{bundle.path}: was not checked on this device; run `twostream verify "
                f"{bundle.path} --device {name}` and try again"
            )
        finding = find_out(name, bundle, ways)
    if finding.way is None:
        with faults_named(name, bundle):
            raise DeviceError(finding.reason)
    if finding.reason:
        logger.warning("the networks run as %s; %s", finding.way, finding.reason)
    return by_name[finding.way]


def find_out(name: DeviceName, bundle: Bundle, ways: Sequence[Way]) -> Finding:
    """Try the ways now, and remember what came of it. Raises as `choose_way` does.

    That no way is right is tried anew each time, unless one hung: a start would take minutes.
    """
    logger.debug("checking device %s with the parity samples of %s", name, bundle.path)
    with faults_named(name, bundle):
        tried = try_ways(name, bundle, ways)
    wrong = [each for each in tried if each.fault is not None]
    right = tried[-1].way.name if tried[-1].fault is None else None
    if right is None and all(each.of_bundle for each in tried):  # no way can load it
        raise BundleError(str(tried[-1].fault))
    hung = any(each.hung for each in wrong)
    again = f"; to have it tried again: twostream verify {bundle.path} --device {name}"
    # anew, for building engines has changed what computes
    key, what = new_key(name, bundle, [way.name for way in ways])
    finding = Finding(
        version=1,
        key=key,
        bundle=bundle.manifest.name,
        device=name,
        identity=what,
        way=right,
        reason=_faults(wrong) + (again if hung else ""),
    )
    if all(each.lasting for each in wrong) and (right is not None or hung):
        remember(finding)
    if right is None:
        with faults_named(name, bundle):
            raise DeviceError(finding.reason)
    return finding


@contextmanager
def faults_named(name: DeviceName, bundle: Bundle) -> Iterator[None]:
    """A DeviceError that the block raises says which device and bundle, and what to do."""
    try:
        yield
    except DeviceError as error:
        raise DeviceError(
            f"{bundle.path}: device {name} is not right: {error}; do not use this bundle here, and "
            "report the device"
        ) from None


def _faults(tried: Sequence[Tried]) -> str:
    """Why these ways are not right, each reason once."""
    names: dict[str, list[str]] = {}
    for each in tried:
        names.setdefault(str(each.fault), []).append(each.way.name)
    return "; ".join(f"{', '.join(ways)}: {fault}" for fault, ways in names.items())
