"""What was found out about a bundle on a device, in a folder of the user's cache.

    checks/KEY.json   KEY is a digest of everything that the finding belongs to

Only what this user has written in a folder that others cannot write to is believed. Whatever is
damaged, or of another version, counts as not there.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from edge.bundle.manifest import Bundle, sha256
from edge.devices import DeviceName, identity
from edge.errors import DeviceError
from edge.files import check_private, make_private, read_private, user_cache, why, write_atomic
from edge.spec import Spec

logger = logging.getLogger(__name__)

_VERSION = 1  # of the checks and their limits, too: another one has everything done again
_MAX_BYTES = 1 << 16
_KEPT = 100


class Finding(Spec):
    """bundle: its name; identity: what computes. way: the name of the one that was taken, or None:
    none is right; reason: why it is not the first, or nothing."""

    version: Literal[1]
    key: str
    bundle: str
    device: DeviceName
    identity: str
    way: str | None
    reason: str


def new_key(name: DeviceName, bundle: Bundle, names: Sequence[str]) -> tuple[str, str]:
    """What a finding about this bundle on this device now belongs to, and the device's identity.
    names: of the ways in question. Raises DeviceError if the device cannot be used."""
    what = identity(name, bundle)
    parts = [_VERSION, _package_version(), name, what, sha256(bundle.manifest_bytes()), list(names)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16], what


def recall(key: str) -> Finding | None:
    """What was found out earlier."""
    try:
        finding = _read(_folder() / f"{key}.json")
    except DeviceError:
        return None
    return finding if finding is not None and finding.key == key else None


def remember(finding: Finding) -> None:
    """Keep it. Where that cannot be, a line says that the check will be done again."""
    try:
        folder = _folder()
        make_private(folder)
        check_private(folder)
        with write_atomic(folder / f"{finding.key}.json", mode=0o600) as file:
            file.write(finding.model_dump_json(indent=1).encode())
        for old in _newest_first(folder)[_KEPT:]:
            old.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("the device is checked at each start: %s (%s)", error.filename, why(error))
    except DeviceError as error:
        logger.warning("the device is checked at each start: %s", error)


def findings() -> list[Finding]:
    """Everything that was found out here, the newest first."""
    try:
        found = [_read(path) for path in _newest_first(_folder())]
    except DeviceError:
        return []
    return [finding for finding in found if finding is not None]


def _newest_first(folder: Path) -> list[Path]:
    dated = []
    for path in folder.glob("*.json"):
        with suppress(OSError):  # another process has just tidied up
            dated.append((path.lstat().st_mtime_ns, path))
    return [path for _, path in sorted(dated, reverse=True)]


def _package_version() -> str:
    try:
        return version("twostream-edge")
    except PackageNotFoundError:  # it runs from its folder
        return ""


def _folder() -> Path:
    try:
        return user_cache() / "checks"
    except RuntimeError:  # a user without a home, as in containers
        raise DeviceError("there is no home folder; set XDG_CACHE_HOME") from None


def _read(path: Path) -> Finding | None:
    try:
        return Finding.model_validate_json(read_private(path, _MAX_BYTES))
    except (OSError, DeviceError, ValidationError):
        return None
