"""Access rules, applied to a parsed request before it is answered.

They stop three attackers. A web page in a browser on this machine (cross-site requests, DNS
rebinding): by `Sec-Fetch-Site`, `Origin` and, without a token, `Host`. A client in the network
without the token: by the token. A client that guesses tokens: by a delay for each address.
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

# answered without a token: they show nothing of the video
LIVE_PATH, READY_PATH = "/healthz", "/readyz"
_OPEN_PATHS = (LIVE_PATH, READY_PATH)
_HOST = re.compile(r"(localhost|[0-9.]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
_GUESSERS_MAX = 1024
_DELAY_FIRST_S, _DELAY_MAX_S = 0.2, 5.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: its path, query and headers. peer: see peer_of()."""

    path: str
    query: Mapping[str, str]
    headers: CIMultiDictProxy[str]
    peer: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """reason: the name of its counter. text: one line for the client."""

    status: HTTPStatus
    reason: str
    text: str
    retry_s: int | None = None


REASONS = ("host", "cross_site", "token", "guesses")


class Access:
    """The rules for one listening address; used by the server's thread alone.

    cookie: the name and value that replace the token after the first request. The value is random
    and valid for this process alone. The name holds the port, since browsers send the cookies of a
    host to all its ports.
    """

    def __init__(self, address: ListenAddress, port: int) -> None:
        self._token = address.token
        self.cookie = (f"twostream-{port}", secrets.token_urlsafe(32))
        self._guesses = _Guesses()

    def refusal(self, asked: Asked) -> Refusal | None:
        """Why a request is refused; None: it may be answered."""
        if not self._token and not _is_loopback_host(asked.headers.get("Host", "")):
            return Refusal(
                HTTPStatus.MISDIRECTED_REQUEST,
                "host",
                "without a token only http://localhost and http://127.0.0.1 on this machine are "
                "answered; give --token to use another name",
            )
        if _is_cross_site(asked):
            return Refusal(
                HTTPStatus.FORBIDDEN, "cross_site", "the request comes from another site's page"
            )
        if not self._token or asked.path in _OPEN_PATHS or self._has_cookie(asked):
            return None
        return self._judge(asked)

    def earns_cookie(self, asked: Asked) -> bool:
        """Whether an allowed request has the token in its URL, as from a browser."""
        token = asked.query.get("token", "")
        return bool(self._token) and asked.path not in _OPEN_PATHS and _same(token, self._token)

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
        tokens = [asked.query.get("token", ""), bearer if scheme.lower() == "bearer" else ""]
        tokens = [text for text in tokens if text]
        if tokens:
            wait_s = self._guesses.wait_s(asked.peer)
            if wait_s > 0:  # refused even if right, or the delay would not slow down guessing
                return Refusal(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    "guesses",
                    "wrong tokens came from this address; try again in a few seconds",
                    retry_s=int(wait_s) + 1,
                )
            if any(_same(text, self._token) for text in tokens):
                self._guesses.forget(asked.peer)
                return None
            self._guesses.add(asked.peer)
        return Refusal(HTTPStatus.UNAUTHORIZED, "token", "open this page with ?token=TOKEN")


class _Guesses:
    """Wrong tokens by address: each doubles the delay before the next one is checked. Only the
    latest addresses are kept, so that memory is bounded."""

    def __init__(self) -> None:
        self._guessers: OrderedDict[str, tuple[int, float]] = OrderedDict()  # count, until when

    def wait_s(self, peer: str) -> float:
        return self._guessers.get(peer, (0, 0.0))[1] - time.monotonic()

    def add(self, peer: str) -> None:
        count = self._guessers.get(peer, (0, 0.0))[0]
        delay_s = min(_DELAY_MAX_S, _DELAY_FIRST_S * 2 ** min(count, 16))
        self._guessers[peer] = (count + 1, time.monotonic() + delay_s)
        self._guessers.move_to_end(peer)
        if len(self._guessers) > _GUESSERS_MAX:
            self._guessers.popitem(last=False)

    def forget(self, peer: str) -> None:
        self._guessers.pop(peer, None)


def peer_of(host: str) -> str:
    """The peer of an address: an IPv4 address, or the /64 network of an IPv6 address, from which a
    host can choose freely."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _same(given: str, expected: str) -> bool:
    """Compare in constant time. Never raises, also for text that is not valid Unicode."""
    return hmac.compare_digest(
        given.encode(errors="surrogatepass"), expected.encode(errors="surrogatepass")
    )


def _is_loopback_host(header: str) -> bool:
    """Whether a Host header names this machine in a way that no name server can redirect."""
    match = _HOST.fullmatch(header)
    if match is None:
        return False
    try:
        return (
            match[1].lower() == "localhost"
            or ipaddress.ip_address(match[1].strip("[]")).is_loopback
        )
    except ValueError:
        return False


def _is_cross_site(asked: Asked) -> bool:
    """Whether a page of another site sent the request. Following a link to the live page is
    allowed: the other site cannot see or frame the answer, and the request changes nothing."""
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
