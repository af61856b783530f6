"""Who may look: rules on a request that is parsed already, before anything is answered.

Three attackers are kept out. A web page in a browser of this machine (cross-site requests, DNS
rebinding): by `Sec-Fetch-Site`, `Origin` and, where no token is asked for, `Host`. Somebody in the
network who has no token: by the token. Somebody who guesses it: by a delay for each address.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from edge.outputs.listen_address import ListenAddress

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

OPEN_PATH = "/healthz"  # answered without a token: it says nothing of what is seen
_HOST = re.compile(r"(localhost|[0-9.]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
_GUESSERS_MAX = 1024
_DELAY_FIRST_S, _DELAY_MAX_S = 0.2, 5.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: its target as it was sent, taken apart, and its head. peer: see peer_of()."""

    path: str
    query: Mapping[str, str]
    headers: CIMultiDictProxy[str]
    peer: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """reason: what it is counted as. text: one line for who asked."""

    status: HTTPStatus
    reason: str
    text: str
    retry_s: int | None = None


REASONS = ("host", "cross_site", "token", "guesses")


class Access:
    """The rules of one address; asked by the server's thread alone.

    cookie: the name and value that stand for the token from then on. The value is made for this
    process and is worth nothing elsewhere. The name holds the port, since browsers give the cookies
    of a host to all its ports.
    """

    def __init__(self, address: ListenAddress, port: int) -> None:
        self._token = address.token
        self.cookie = (f"twostream-{port}", secrets.token_urlsafe(32))
        self._guesses = _Guesses()

    def refusal(self, asked: Asked) -> Refusal | None:
        """None: it may be answered."""
        if not self._token and not _is_loopback_host(asked.headers.get("Host", "")):
            return Refusal(
                HTTPStatus.MISDIRECTED_REQUEST,
                "host",
                "without a token only this machine is answered, as http://localhost or "
                "http://127.0.0.1; give --token to use another name",
            )
        if _is_cross_site(asked):
            return Refusal(HTTPStatus.FORBIDDEN, "cross_site", "another site's page asks for this")
        if not self._token or asked.path == OPEN_PATH or self._has_cookie(asked):
            return None
        return self._judge(asked)

    def earns_cookie(self, asked: Asked) -> bool:
        """Whether a request that may be answered gave the token in its address, as people do."""
        given = asked.query.get("token", "")
        return bool(self._token) and asked.path != OPEN_PATH and _same(given, self._token)

    def _has_cookie(self, asked: Asked) -> bool:
        name, value = self.cookie
        pairs = (
            pair.strip().partition("=")
            for header in asked.headers.getall("Cookie", [])
            for pair in header.split(";")
        )
        return any(key == name and _same(given, value) for key, _, given in pairs)

    def _judge(self, asked: Asked) -> Refusal | None:
        scheme, _, bearer = asked.headers.get("Authorization", "").partition(" ")
        offered = [asked.query.get("token", ""), bearer if scheme.lower() == "bearer" else ""]
        offered = [text for text in offered if text]
        if offered:
            wait_s = self._guesses.wait_s(asked.peer)
            if wait_s > 0:  # not looked at, right or wrong: else the delay could be seen through
                return Refusal(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    "guesses",
                    "wrong tokens came from this address; try again in a few seconds",
                    retry_s=int(wait_s) + 1,
                )
            if any(_same(text, self._token) for text in offered):
                self._guesses.forget(asked.peer)
                return None
            self._guesses.add(asked.peer)
        return Refusal(HTTPStatus.UNAUTHORIZED, "token", "open this page with ?token=TOKEN")


class _Guesses:
    """Wrong tokens by address: each doubles the time in which no further one is looked at. The
    addresses that have guessed last are kept, so that memory has a bound."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[int, float]] = OrderedDict()  # count, until when

    def wait_s(self, peer: str) -> float:
        return self._known.get(peer, (0, 0.0))[1] - time.monotonic()

    def add(self, peer: str) -> None:
        count = self._known.get(peer, (0, 0.0))[0]
        delay_s = min(_DELAY_MAX_S, _DELAY_FIRST_S * 2 ** min(count, 16))
        self._known[peer] = (count + 1, time.monotonic() + delay_s)
        self._known.move_to_end(peer)
        if len(self._known) > _GUESSERS_MAX:
            self._known.popitem(last=False)

    def forget(self, peer: str) -> None:
        self._known.pop(peer, None)


def peer_of(host: str) -> str:
    """What counts as one peer: an IPv4 address, or the /64 network that an IPv6 host chooses its
    addresses from."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _same(given: str, wanted: str) -> bool:
    """In a time that tells nothing. What is no Unicode is compared, too, and never raises."""
    return hmac.compare_digest(
        given.encode(errors="surrogatepass"), wanted.encode(errors="surrogatepass")
    )


def _is_loopback_host(header: str) -> bool:
    """Of a Host header: a name that no foreign name server answers for."""
    found = _HOST.fullmatch(header)
    if found is None:
        return False
    try:
        return (
            found[1].lower() == "localhost"
            or ipaddress.ip_address(found[1].strip("[]")).is_loopback
        )
    except ValueError:
        return False


def _is_cross_site(asked: Asked) -> bool:
    """Whether a page of another site asks. Following a link to the page itself is no harm: the
    other site sees nothing of the answer, can't frame it, and nothing is changed by it."""
    headers = asked.headers
    origin = headers.get("Origin")
    if origin is not None:
        scheme, _, host = origin.partition("://")
        if scheme not in ("http", "https") or host != headers.get("Host"):
            return True
    if headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
        return False
    followed = (headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest"))
    return not (asked.path == "/" and followed == ("navigate", "document"))
