"""A bundle before it is opened: brought here, and compared with what its user expects of it."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from edge.bundle.manifest import MANIFEST, Bundle, load_bundle
from edge.commands.bundle.download import download, is_url
from edge.commands.bundle.signature import MAX_BYTES, SUFFIX, check_signature, read_key
from edge.errors import BundleError
from edge.files import write_atomic
from edge.redaction import redact_address


@dataclass(frozen=True, slots=True)
class Trust:
    """What must be right before a bundle is opened. sha256: of its .zip, or of a folder's
    bundle.json, 64 hexadecimal digits. key: of minisign, or the path of its file. None: not asked
    for."""

    sha256: str | None = None
    key: str | None = None


def fetch_bundle(source: str, trust: Trust, temporary: Path) -> tuple[Bundle, list[str]]:
    """Open the bundle at a path or http(s) address; returns it with what was checked, one line
    each. temporary: a folder for the copy of a .zip, which is what was checked and is opened.

    Raises BundleError if it cannot be had or is not what `trust` says.
    """
    key = None if trust.key is None else read_key(trust.key)  # before anything is downloaded
    name, bundle = redact_address(source), None
    copy, signature = temporary / "bundle.zip", temporary / "signature"
    if is_url(source):
        if key is not None:
            parts = urlsplit(source)
            download(parts._replace(path=parts.path + SUFFIX).geturl(), signature, MAX_BYTES)
        download(source, copy)
    elif "://" in source:
        raise BundleError(f"{name}: only http and https addresses can be downloaded")
    elif Path(source).is_dir():
        bundle = load_bundle(source)  # its other files are compared with their hashes when read
        if key is not None:
            _copy(Path(source) / f"{MANIFEST}{SUFFIX}", signature)
    else:
        if key is not None:
            _copy(Path(f"{source}{SUFFIX}"), signature)
        _copy(Path(source), copy)
    lines = []

    def checked() -> IO[bytes]:
        return copy.open("rb") if bundle is None else io.BytesIO(bundle.manifest_bytes())

    if trust.sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", trust.sha256):
        raise BundleError(f"--sha256 {trust.sha256[:80]}: needs 64 hexadecimal digits")
    if trust.sha256 is not None:
        with checked() as file:
            _check_hash(file, trust.sha256, name)
        lines.append(f"{name}: has the sha256 that was given")
    if key is not None:
        with checked() as file:
            comment = check_signature(file, signature.read_bytes(), key, name)
        lines.append(f"{name}: is signed with this key ({comment})")
    with naming(copy, name):
        return bundle or load_bundle(copy), lines


@contextmanager
def naming(copy: Path, source: str) -> Iterator[None]:
    """A BundleError in the block names what the user gave, not its temporary copy."""
    try:
        yield
    except BundleError as fault:
        raise BundleError(str(fault).replace(str(copy), redact_address(source))) from None


def _check_hash(file: IO[bytes], expected: str, name: str) -> None:
    digest = hashlib.sha256()
    while part := file.read(1 << 20):
        digest.update(part)
    if digest.hexdigest() != expected.lower():
        raise BundleError(
            f"{name}: its sha256 is {digest.hexdigest()}, not {expected.lower()[:64]}; do not use "
            "it unless you know why"
        )


def _copy(path: Path, copy: Path) -> None:
    """Copy a plain file. Raises BundleError if it is not there or not plain: a pipe would block."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BundleError(f"{path}: is not a plain file; give a bundle folder or .zip")
            with write_atomic(copy, BundleError) as out:
                shutil.copyfileobj(file, out)
    except OSError as fault:
        raise BundleError(f"{path}: cannot be read ({fault.strerror})") from None
