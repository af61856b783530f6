"""The addresses of sources.

    clip.avi, /videos/clip.mp4, file:///videos/clip%201.mkv   a video file
    pictures/                                                 a folder of numbered pictures
    /dev/video0, /dev/v4l/by-id/...                           a USB camera (V4L2), by any name
    csi://0                                                   a ribbon camera on a Jetson
    rtsp://user:password@host:554/path, rtsps://...           a network camera; rtspu:// over UDP
    http://user:password@host/path, https://...               a network camera that sends MJPEG
    pipeline:v4l2src device=/dev/video2 ! jpegdec             any GStreamer elements
    test://                                                   a test pattern

They take options, `?key=value&key=value`, `pipeline:` the last two alone:

    rotate          0, 90, 180, 270: degrees, clockwise
    flip            horizontal, vertical; after the rotation
    region, mask    what is used of the picture, after both; see edge.video.view

A network camera gets the rest of its query unchanged. Other cameras and the test pattern also take:

    width, height   px
    rate            frames a second, `30` or `30000/1001`
    pattern         of the test pattern, as in `gst-inspect-1.0 videotestsrc` (smpte, ball, snow...)
    frames          of the test pattern: its length
    live            of the test pattern, 1: in real time like a camera; 0: as fast as it is read

The options of a file are read only if there is no file whose name ends in them.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from edge.errors import SourceError
from edge.redaction import redact_address
from edge.sources.options import (
    CAMERA_OPTIONS,
    PICTURE_OPTIONS,
    TEST_OPTIONS,
    VIEW_OPTIONS,
    read_options,
    take_picture_options,
)
from edge.video.image_folder import count_pictures, list_images
from edge.video.orientation import UPRIGHT, Orientation
from edge.video.view import WHOLE, View

Kind = Literal["file", "v4l2", "csi", "rtsp", "http", "test", "pipeline"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_CSI = re.compile(r"csi://(\d{1,2})(?:\?(.*))?")
_TEST = re.compile(r"test://(?:\?(.*))?")
_PIPELINE = "pipeline:"
_KNOWN = "a file, a folder, /dev/videoN, csi://N, rtsp://HOST/PATH, http://HOST/PATH or test://"
_V4L2_MAJOR = 81  # the kernel's number for devices of this kind, whatever they are called
_NETWORK_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("rtsp", "rtsps", "rtspu"), "rtsp"),
    **dict.fromkeys(("http", "https"), "http"),
}
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
    orientation: Orientation = UPRIGHT  # what to do with its upright picture
    view: View = WHOLE  # what is used of it then

    @property
    def endless(self) -> bool:
        """Whether it has no end, although it is no camera."""
        return self.kind == "test" and not self.live and self.frames is None


def parse_address(uri: str) -> Address:
    """Parse `uri`. Raises SourceError if it is malformed or names something that is not there."""
    if not uri or not uri.isprintable():
        raise SourceError(f"{redact_address(uri)!r} is not a video source; give {_KNOWN}")
    if uri.startswith(_PIPELINE):
        return _own_pipeline(uri.removeprefix(_PIPELINE))
    name = redact_address(uri)
    scheme = match[1].lower() if (match := _SCHEME.match(uri)) else ""
    if scheme in ("", "file"):
        return _path(_file_path(uri) if scheme else uri)
    if scheme in _NETWORK_KINDS:
        return _network(uri, scheme)
    if scheme == "csi":
        if not (match := _CSI.fullmatch(uri)):
            raise SourceError(
                f"{name}: a CSI camera is csi://N, N being its sensor number: csi://0"
            )
        return _with_options(Address("csi", name, match[1]), match[2], CAMERA_OPTIONS)
    if scheme == "test":
        if not (match := _TEST.fullmatch(uri)):
            raise SourceError(f"{name}: a test pattern is test:// or test://?key=value&key=value")
        return _with_options(Address("test", name, live=False), match[1], TEST_OPTIONS)
    raise SourceError(f"{name}: {scheme}:// is not a kind of video source; give {_KNOWN}")


def _own_pipeline(elements: str) -> Address:
    if not elements.strip():
        raise SourceError("--pipeline: give GStreamer elements that end in raw video")
    before, _, query = elements.rpartition("?")
    # an address among the elements may have a query, but raw video does not end in one like ours
    if query.startswith(tuple(f"{key}=" for key in VIEW_OPTIONS)):
        return _with_options(Address("pipeline", "pipeline", before), query, VIEW_OPTIONS)
    return Address("pipeline", "pipeline", elements)


def _file_path(uri: str) -> str:
    path = uri.split("://", 1)[1].removeprefix("localhost")
    if not path.startswith("/"):
        raise SourceError(
            f"{redact_address(uri)}: a file URI has three slashes and a full path, file:///dir/clip"
        )
    return unquote(path)


def split_options(path: str) -> tuple[str, str | None]:
    """A path and the options after it (None: there are none)."""
    if os.path.exists(path):
        return path, None
    place, mark, query = path.rpartition("?")
    if mark and (os.path.exists(place) or _is_device(place)):
        return place, query
    return path, None


def _is_device(path: str) -> bool:
    """Whether the path is that of a device, also of one that is not plugged in."""
    return path.startswith("/dev/") and not path.startswith("/dev/shm/")


def _path(text: str) -> Address:
    """A file or a device. A device has many names: /dev/video0, and links to it that stay the same
    when it is plugged in again."""
    place, query = split_options(text)
    path = Path(place)
    if _is_device(place) and not path.exists():
        raise SourceError(f"{redact_address(place)}: no such camera; connected: {_connected(path)}")
    status = _status(path)
    if stat.S_ISCHR(status.st_mode):
        _check_camera(path, os.major(status.st_rdev))
        return _with_options(Address("v4l2", redact_address(text), place), query, CAMERA_OPTIONS)
    _check_file(path, status)
    return _with_options(Address("file", place, place, live=False), query, PICTURE_OPTIONS)


def _connected(absent: Path) -> str:
    """The cameras there are, by the kind of name that was given."""
    by_link = absent.parent.parent == Path("/dev/v4l")
    names = absent.parent.glob("*") if by_link else Path("/dev").glob("video*")
    return ", ".join(sorted(map(str, names))) or "none"


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as fault:
        # redacted, since it may be a mistyped camera address
        name = redact_address(str(path))
        raise SourceError(f"{name}: {fault.strerror}; give a video file") from None
    except ValueError:  # a NUL, from %00
        raise SourceError(
            f"{redact_address(str(path))!r} is not a path; give a video file"
        ) from None


def _check_file(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        if not count_pictures(path)[0]:
            raise SourceError(
                f"{path} is a folder; give one video file, or a folder of numbered pictures"
            )
        list_images(path)
        return
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{path} is not a regular file; give a video file or /dev/videoN")
    if status.st_size == 0:
        raise SourceError(f"{path} is empty (0 bytes); give a video file")
    if not os.access(path, os.R_OK):
        raise SourceError(f"{path}: no permission to read it; change its permissions")


def _check_camera(device: Path, major: int) -> None:
    if major != _V4L2_MAJOR:
        raise SourceError(
            f"{device} is a device, but not a camera (V4L2); `v4l2-ctl --list-devices` lists those"
        )
    if not os.access(device, os.R_OK | os.W_OK):
        raise SourceError(f"{device}: no permission to open it; run `sudo adduser $USER video`")


def _network(uri: str, scheme: str) -> Address:
    name = redact_address(uri)
    try:
        parts = urlsplit(uri)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port or IPv6 host
        usable = False
    if not usable or " " in uri:
        raise SourceError(
            f"{name}: not an {_NETWORK_KINDS[scheme].upper()} address; give "
            f"{scheme}://[USER:PASSWORD@]HOST[:PORT]/PATH "
            "(in a password write @ as %40, / as %2F, : as %3A)"
        )
    before, mark, query = uri.partition("?")
    options, rest = take_picture_options(name, query)
    location = before + mark + rest if rest or not options else before
    return replace(Address(_NETWORK_KINDS[scheme], name, location), **options)


def with_view(uri: str, view: View) -> str:
    """The address of the same source with this view. Raises SourceError for a malformed file://."""
    if view == WHOLE:
        return uri
    scheme = match[1].lower() if (match := _SCHEME.match(uri)) else ""
    if uri.startswith(_PIPELINE):
        has_options = False
    elif scheme in ("", "file"):
        has_options = split_options(_file_path(uri) if scheme else uri)[1] is not None
    else:
        has_options = "?" in uri
    return f"{uri}{'&' if has_options else '?'}{view.query()}"


def without_view(uri: str) -> str:
    """The address of the same source with its whole picture. Raises SourceError as `parse_address`
    does."""
    address = parse_address(uri)
    if address.view == WHOLE:
        return uri
    network = address.kind in _NETWORK_KINDS.values()
    place, _, query = uri.partition("?") if network else uri.rpartition("?")
    rest = [part for part in query.split("&") if part.partition("=")[0] not in VIEW_OPTIONS]
    return f"{place}?{'&'.join(rest)}" if rest else place


def _with_options(address: Address, query: str | None, allowed: tuple[str, ...]) -> Address:
    """`address` with the options of `query` (the text after `?`; None: there is none)."""
    if query is None:
        return address
    return replace(address, **read_options(address.name, query, allowed))
