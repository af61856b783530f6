"""The address that a server of the run listens on: local, or open to clients with a token."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from edge.errors import OutputError

TOKEN_MIN = 16  # characters, if clients on other machines can guess


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """host, port: where to listen; port 0 is any. token: that clients must send; "" is none."""

    host: str
    port: int
    token: str

    @property
    def url_host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def parse_listen(option: str, text: str, token: str) -> ListenAddress:
    """Parse "8080", "0.0.0.0:8080" or "[::]:8080".

    Raises OutputError if it is malformed, or open to other machines without a safe token.
    """
    host, colon, port = text.rpartition(":")
    host = host.strip("[]") if colon else "127.0.0.1"
    if not port.isascii() or not port.isdigit() or int(port) > 65535 or not host:
        raise OutputError(f"{option} {text}: give a port, or an address and a port: 0.0.0.0:8080")
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise OutputError(f"{option} {text}: {host} is not an IP address") from None
    if not local and not token:
        raise OutputError(
            f"{option} {text}: everyone in the network could watch; give --token or "
            "TWOSTREAM_TOKEN, and open the page with the parameter `token`, the stream as "
            "viewer:TOKEN@"
        )
    if not local and len(token) < TOKEN_MIN:
        raise OutputError(
            f"{option} {text}: a token of {len(token)} characters can be guessed; give one of "
            f"{TOKEN_MIN} or more, created by: openssl rand -hex 16"
        )
    return ListenAddress(host, int(port), token)
