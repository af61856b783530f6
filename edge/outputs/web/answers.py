"""HTTP answers and their headers."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

HEADERS = {
    "Server": "twostream",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "media-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


def whole(kind: str, data: bytes, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    """A complete answer. kind: its Content-Type."""
    return web.Response(status=status, body=data, headers=HEADERS | {"Content-Type": kind})


def plain(status: HTTPStatus, text: str) -> web.Response:
    """An answer of one line of text."""
    return whole("text/plain; charset=utf-8", f"{text}\n".encode(), status)


def bad_request() -> bytes:
    """The bytes of the answer to a request that could not be parsed."""
    fields = HEADERS | {"Content-Length": "0", "Connection": "close"}
    lines = ["HTTP/1.1 400 Bad Request", *(f"{name}: {value}" for name, value in fields.items())]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()
