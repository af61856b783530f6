"""Machine code that a library has made on this machine, so that the next start need not make it
again.

    FOLDER/KEY.blob   sha256 of the rest, and what the library exported; KEY is a digest of
                      everything that this depends on

It is run as it is: only what this user has written, in a folder that others cannot write to, is
read, and only if it is whole.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from edge.errors import DeviceError
from edge.files import check_private, make_private, read_private, user_cache, write_atomic

logger = logging.getLogger(__name__)

_MAX_BYTES = 1 << 30
_SHA256_BYTES = 32


def key_of(parts: Sequence[object]) -> str:
    """A digest of what the code depends on. parts: for JSON."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


class CodeCache:
    """One kind of machine code. folder: its name in the user's cache. kept: how many are kept, of
    those that were last used."""

    def __init__(self, folder: str, kept: int) -> None:
        self._name, self._kept = folder, kept

    def find(self, key: str) -> bytes | None:
        """What was kept under this key; None if nothing, or if it is damaged or not to be
        trusted."""
        try:
            path = self._folder() / f"{key}.blob"
            data = read_private(path, _MAX_BYTES)
        except (OSError, DeviceError):
            return None
        with suppress(OSError):  # a cache that can only be read
            os.utime(path)
        blob = data[_SHA256_BYTES:]
        return blob if hashlib.sha256(blob).digest() == data[:_SHA256_BYTES] else None

    def keep(self, key: str, blob: bytes) -> None:
        """Keep it, and those last used. Where that cannot be, it is made at each start."""
        try:
            folder = self._folder()
            make_private(folder)
            check_private(folder)
            kept = folder / f"{key}.blob"
            with write_atomic(kept, mode=0o600) as file:
                file.write(hashlib.sha256(blob).digest() + blob)
            dated = []
            for path in set(folder.glob("*.blob")) - {kept}:
                with suppress(OSError):  # another process has just tidied up
                    dated.append((path.lstat().st_mtime_ns, path))
            for _, old in sorted(dated, reverse=True)[self._kept - 1 :]:
                old.unlink(missing_ok=True)
        except (OSError, DeviceError):
            logger.debug("%s are compiled at each start", self._name, exc_info=True)

    def _folder(self) -> Path:
        try:
            return user_cache() / self._name
        except RuntimeError:  # a user without a home, as in containers
            raise DeviceError("there is no home folder; set XDG_CACHE_HOME") from None
