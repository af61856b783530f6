"""The addresses of sources.

    clip.avi, /videos/clip.mp4, file:///videos/clip%201.mkv   any file that GStreamer can decode
    /dev/video0                                               a USB camera (V4L2)
    csi://0                                                   a ribbon camera on a Jetson
    rtsp://user:password@host:554/path, rtsps://...           a network camera; rtspu:// over UDP
    pipeline:v4l2src device=/dev/video2 ! jpegdec             any GStreamer elements
    test://                                                   a test pattern

Cameras and the test pattern take options, `?key=value&key=value`:

    width, height   px
    rate            frames a second, `30` or `30000/1001`
    pattern         of the test pattern, as in `gst-inspect-1.0 videotestsrc` (smpte, ball, snow...)
    frames          of the test pattern: its length
    live            of the test pattern, 1: in real time like a camera; 0: as fast as it is read
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from edge.errors import SourceError
from edge.redaction import redact_address

Kind = Literal["file", "v4l2", "csi", "rtsp", "test", "pipeline"]

# The endings of videos that are found in folders; a file that is named may have any ending.
VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm", ".wmv")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_V4L2 = re.compile(r"(/dev/video\d+)(?:\?(.*))?")
_CSI = re.compile(r"csi://(\d{1,2})(?:\?(.*))?")
_TEST = re.compile(r"test://(?:\?(.*))?")
_PIPELINE = "pipeline:"
_KNOWN = "a file, a folder, /dev/videoN, csi://N, rtsp://HOST/PATH or test://"
_SIDE_MAX_PX = 8192
_RATE_MAX_FPS = 1000
_TEST_SIZE_WH = (320, 240)
_TEST_RATE = Fraction(25)


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address. name: for messages, without a password."""

    kind: Kind
    name: str
    location: str = ""  # path, device, URL or sensor number
    width: int | None = None  # px
    height: int | None = None  # px
    rate: Fraction | None = None  # frames a second
    pattern: str = "smpte"
    frames: int | None = None
    live: bool = True


def parse_address(uri: str) -> Address:
    """Parse `uri`. Raises SourceError if it is malformed or names something that is not there."""
    if not uri or not uri.isprintable():
        raise SourceError(f"{redact_address(uri)!r} is not a video source; give {_KNOWN}")
    if uri.startswith(_PIPELINE):
        return _own_pipeline(uri.removeprefix(_PIPELINE))
    name = redact_address(uri)
    if match := _V4L2.fullmatch(uri):
        _check_camera(Path(match[1]))
        return _with_options(Address("v4l2", name, match[1]), match[2])
    scheme = match[1].lower() if (match := _SCHEME.match(uri)) else ""
    if scheme in ("", "file"):
        path = Path(_file_path(uri) if scheme else uri)
        _check_file(path)
        return Address("file", str(path), str(path), live=False)
    if scheme in ("rtsp", "rtsps", "rtspu"):
        return _rtsp(uri)
    if scheme == "csi":
        if not (match := _CSI.fullmatch(uri)):
            raise SourceError(
                f"{name}: a CSI camera is csi://N, N being its sensor number: csi://0"
            )
        return _with_options(Address("csi", name, match[1]), match[2])
    if scheme == "test":
        if not (match := _TEST.fullmatch(uri)):
            raise SourceError(f"{name}: a test pattern is test:// or test://?key=value&key=value")
        return _with_options(Address("test", name, live=False), match[1])
    raise SourceError(f"{name}: {scheme}:// is not a kind of video source; give {_KNOWN}")


def _own_pipeline(elements: str) -> Address:
    if not elements.strip():
        raise SourceError("--pipeline: give GStreamer elements that end in raw video")
    return Address("pipeline", "pipeline", elements)


def _file_path(uri: str) -> str:
    path = uri.split("://", 1)[1].removeprefix("localhost")
    if not path.startswith("/"):
        raise SourceError(
            f"{redact_address(uri)}: a file URI has three slashes and a full path, file:///dir/clip"
        )
    return unquote(path)


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
    except OSError as fault:
        # redacted, since it may be a mistyped camera address
        name = redact_address(str(path))
        raise SourceError(f"{name}: {fault.strerror}; give a video file") from None
    except ValueError:  # a NUL, from %00
        raise SourceError(
            f"{redact_address(str(path))!r} is not a path; give a video file"
        ) from None
    if stat.S_ISDIR(status.st_mode):
        raise SourceError(f"{path} is a folder; give one video file")
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{path} is not a regular file; give a video file or /dev/videoN")
    if status.st_size == 0:
        raise SourceError(f"{path} is empty (0 bytes); give a video file")
    if not os.access(path, os.R_OK):
        raise SourceError(f"{path}: no permission to read it; change its permissions")


def _check_camera(device: Path) -> None:
    if not device.exists():
        present = ", ".join(sorted(str(other) for other in device.parent.glob("video*")))
        raise SourceError(f"{device}: no such camera; connected: {present or 'none'}")
    if not os.access(device, os.R_OK | os.W_OK):
        raise SourceError(f"{device}: no permission to open it; run `sudo adduser $USER video`")


def _rtsp(uri: str) -> Address:
    name = redact_address(uri)
    try:
        parts = urlsplit(uri)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port or IPv6 host
        usable = False
    if not usable or " " in uri:
        raise SourceError(
            f"{name}: not an RTSP address; give rtsp://[USER:PASSWORD@]HOST[:PORT]/PATH "
            "(in a password write @ as %40, / as %2F, : as %3A)"
        )
    return Address("rtsp", name, uri)


def _whole(text: str, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= most:
        raise ValueError(f"a whole number from 1 to {most}")
    return int(text)


def _rate(text: str) -> Fraction:
    if re.fullmatch(r"[0-9]{1,6}(/[0-9]{1,6})?", text) and not re.fullmatch(r".*/0+", text):
        rate = Fraction(text)
        if 0 < rate <= _RATE_MAX_FPS:
            return rate
    raise ValueError(f"a rate up to {_RATE_MAX_FPS} such as 30 or 30000/1001")


def _pattern(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9-]*", text):
        raise ValueError("a pattern of videotestsrc such as smpte, ball or snow")
    return text


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("0 or 1")
    return text == "1"


_READERS: dict[str, Callable[[str], Any]] = {
    "width": lambda text: _whole(text, _SIDE_MAX_PX),
    "height": lambda text: _whole(text, _SIDE_MAX_PX),
    "rate": _rate,
    "pattern": _pattern,
    "frames": lambda text: _whole(text, 999_999_999),
    "live": _flag,
}
_CAMERA_OPTIONS = ("width", "height", "rate")


def _with_options(address: Address, query: str | None) -> Address:
    """`address` with the options of `query` (the text after `?`; None: there is none)."""
    if query is None:
        return address
    allowed = tuple(_READERS) if address.kind == "test" else _CAMERA_OPTIONS
    values: dict[str, Any] = {}
    for part in query.split("&"):
        key, equals, text = part.partition("=")
        if key not in allowed or not equals or key in values:
            raise SourceError(
                f"{address.name}: {redact_address(part)!r} is not an option here; give each of "
                f"{', '.join(allowed)} at most once, as key=value"
            )
        try:
            values[key] = _READERS[key](text)
        except ValueError as fault:
            raise SourceError(
                f"{address.name}: {key} must be {fault}, not {redact_address(text)!r}"
            ) from None
    if ("width" in values) != ("height" in values):
        raise SourceError(f"{address.name}: give width and height together")
    return Address(address.kind, address.name, address.location, **{"live": address.live} | values)
