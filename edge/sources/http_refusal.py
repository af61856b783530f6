"""Why a web server's answer is not a camera's stream."""

from __future__ import annotations

from http import HTTPStatus

from edge.redaction import redact_address
from edge.text import printable
from edge.video.gstreamer import HttpAnswer

_LOOK_UP = "look up the address of its MJPEG stream in the camera's manual"
_SHOWN_MAX = 200  # characters of what a server sends


def http_refusal(answer: HttpAnswer) -> str | None:
    """Why this is not an MJPEG stream (multipart/x-mixed-replace), in one line; None: it is one."""
    status = answer.status
    said = f"{status} {_phrase(status)}".rstrip()
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return f"it refuses this user and password ({said}); give http://USER:PASSWORD@HOST/PATH"
    if 300 <= status < 400:
        place = printable(redact_address(answer.location))[:_SHOWN_MAX] or "another address"
        return f"it redirects to {place} ({said}), which is not followed; give that address itself"
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return f"there is nothing at this address ({said}); {_LOOK_UP}"
    if status >= 400:
        return f"it answers {said}; check that the camera works in a browser"
    kind = answer.content_type.partition(";")[0].strip().lower()
    if kind.startswith("multipart/"):
        return None
    if kind == "text/html":
        return f"it sends a web page, not MJPEG; {_LOOK_UP}"
    if kind.startswith("image/"):
        return f"it sends a single picture ({printable(kind)[:_SHOWN_MAX]}), not MJPEG; {_LOOK_UP}"
    what = printable(kind)[:_SHOWN_MAX] or "something of no stated type"
    return f"it sends {what}, not MJPEG (multipart/x-mixed-replace); {_LOOK_UP}"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
