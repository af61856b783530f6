"""Downloads a file over http or https, with a bound on everything that the server decides."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urljoin, urlsplit

from edge.errors import BundleError
from edge.files import write_atomic
from edge.outputs.http_post import FAULTS, fault_text
from edge.redaction import redact_address

MAX_BYTES = 2 << 30
_STALL_S = 30.0  # for a connection, and between two parts of an answer
_WHOLE_S = 3600.0  # for the whole answer: a byte now and then would never stall
_REDIRECTS_MAX = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_PART_BYTES = 1 << 20


def is_url(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def download(url: str, file: Path, limit: int = MAX_BYTES) -> None:
    """Write what is at `url` to a file, of `limit` bytes at most. Uses the proxy of the
    environment, if any; follows redirects, but none from https to http.

    Raises BundleError with one line, which holds neither a password nor anything that the server
    sent; the file is whole or not there.
    """
    shown = redact_address(url)
    with _reaching(shown):
        answer = _open(url, shown)
    with answer, write_atomic(file, BundleError) as out:
        _copy(answer, out, shown, limit)


@contextmanager
def _reaching(shown: str) -> Iterator[None]:
    """Faults of the network in the block become a BundleError."""
    try:
        yield
    except FAULTS as fault:
        raise BundleError(
            f"{shown}: cannot be downloaded ({fault_text(fault)}); check the address, the network"
            " and the server"
        ) from None


def _open(url: str, shown: str) -> IO[bytes]:
    # of all schemes only these two, and redirects are followed below
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
    ):
        opener.add_handler(handler)
    for _ in range(_REDIRECTS_MAX + 1):
        if urlsplit(url).username is not None:
            raise BundleError(
                f"{shown}: addresses with a password are not supported; download the file "
                "yourself and give its path"
            )
        answer = opener.open(urllib.request.Request(url), timeout=_STALL_S)
        if answer.status not in _REDIRECTS:
            break
        before, url = url, urljoin(url, answer.headers.get("Location", ""))
        answer.close()
        if not is_url(url) or (before.startswith("https:") and not url.startswith("https:")):
            raise BundleError(f"{shown}: it leads to an address that is not https; give that one")
    if answer.status != 200:
        answer.close()
        raise BundleError(f"{shown}: the server answers {answer.status}; check the address")
    return answer  # type: ignore[no-any-return]


def _copy(answer: IO[bytes], out: IO[bytes], shown: str, limit: int) -> None:
    length = answer.headers.get("Content-Length", "")  # type: ignore[attr-defined]
    expected = int(length) if length.isascii() and length.isdigit() else None
    deadline_s, size = time.monotonic() + _WHOLE_S, 0
    while True:
        if max(size, expected or 0) > limit:
            raise BundleError(
                f"{shown}: has more than {limit >> 10} KiB, which is not what is looked for there"
            )
        if time.monotonic() > deadline_s:
            raise BundleError(f"{shown}: was not there after {_WHOLE_S / 60:.0f} minutes")
        with _reaching(shown):
            part = answer.read1(_PART_BYTES)  # type: ignore[attr-defined]
        if not part:
            break
        out.write(part)
        size += len(part)
    if expected not in (None, size):
        raise BundleError(f"{shown}: the connection broke off; try again")
