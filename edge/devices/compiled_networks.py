"""Networks as a back end has compiled them, so that the next start need not do it again.

    networks/KEY.blob   sha256 of the rest, and what the back end exported; KEY is a digest of
                        everything that this depends on

A compiled network is, in effect, machine code: only what this user has written, in a folder that
others cannot write to, is read, and only if it is whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edge.errors import DeviceError
from edge.files import check_private, make_private, read_private, user_cache, write_atomic

logger = logging.getLogger(__name__)

_KEPT = 16  # two are 8 MB for the demo bundle
_MAX_BYTES = 1 << 30
_SHA256_BYTES = 32


def key_of(parts: Sequence[object]) -> str:
    """A digest of what a compiled network depends on. parts: for JSON."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def find(key: str) -> bytes | None:
    """What was kept under this key; None if nothing, or if it is damaged or not to be trusted."""
    try:
        data = read_private(_folder() / f"{key}.blob", _MAX_BYTES)
    except (OSError, DeviceError):
        return None
    blob = data[_SHA256_BYTES:]
    return blob if hashlib.sha256(blob).digest() == data[:_SHA256_BYTES] else None


def keep(key: str, blob: bytes) -> None:
    """Keep it, and the newest others. Where that cannot be, it is compiled at each start."""
    try:
        folder = _folder()
        make_private(folder)
        check_private(folder)
        with write_atomic(folder / f"{key}.blob", mode=0o600) as file:
            file.write(hashlib.sha256(blob).digest() + blob)
        dated = []
        for path in folder.glob("*.blob"):
            with suppress(OSError):  # another process has just tidied up
                dated.append((path.lstat().st_mtime_ns, path))
        for _, old in sorted(dated, reverse=True)[_KEPT:]:
            old.unlink(missing_ok=True)
    except (OSError, DeviceError):
        logger.debug("networks are compiled at each start", exc_info=True)


def _folder() -> Path:
    try:
        return user_cache() / "networks"
    except RuntimeError:  # a user without a home, as in containers
        raise DeviceError("there is no home folder; set XDG_CACHE_HOME") from None
