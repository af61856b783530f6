"""The options at the end of an address: `?key=value&key=value`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from fractions import Fraction
from typing import Any

from edge.errors import SourceError
from edge.redaction import redact_address
from edge.video.orientation import (
    FLIPPED_HORIZONTALLY,
    FLIPPED_VERTICALLY,
    UPRIGHT,
    Orientation,
)
from edge.video.view import View, parse_mask, parse_region

# Those of all sources. They are taken out of a network camera's query; the camera gets the rest.
VIEW_OPTIONS = ("region", "mask")
PICTURE_OPTIONS = ("rotate", "flip", *VIEW_OPTIONS)
CAMERA_OPTIONS = ("width", "height", "rate", *PICTURE_OPTIONS)
TEST_OPTIONS = (*CAMERA_OPTIONS, "pattern", "frames", "live")

_SIDE_MAX_PX = 8192
_RATE_MAX_FPS = 1000
_FLIPS = {"horizontal": FLIPPED_HORIZONTALLY, "vertical": FLIPPED_VERTICALLY}
# What nvvidconv calls flip-method, in our words; people know the numbers from their pipelines.
_FLIP_METHODS = {
    "0": "nothing",
    "1": "rotate=270",
    "2": "rotate=180",
    "3": "rotate=90",
    "4": "flip=horizontal",
    "5": "rotate=90&flip=vertical",
    "6": "flip=vertical",
    "7": "rotate=90&flip=horizontal",
}


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


def _rotate(text: str) -> Orientation:
    if text not in ("0", "90", "180", "270"):
        raise ValueError("0, 90, 180 or 270 (degrees, clockwise)")
    return Orientation(int(text) // 90)


def _flip(text: str) -> Orientation:
    if text in _FLIP_METHODS:
        raise ValueError(
            f"horizontal or vertical (for nvvidconv's flip-method {text} write "
            f"{_FLIP_METHODS[text]})"
        )
    if text not in _FLIPS:
        raise ValueError("horizontal or vertical")
    return _FLIPS[text]


_READERS: dict[str, Callable[[str], Any]] = {
    "width": lambda text: _whole(text, _SIDE_MAX_PX),
    "height": lambda text: _whole(text, _SIDE_MAX_PX),
    "rate": _rate,
    "rotate": _rotate,
    "flip": _flip,
    "region": parse_region,
    "mask": parse_mask,
    "pattern": _pattern,
    "frames": lambda text: _whole(text, 999_999_999),
    "live": _flag,
}


def read_options(name: str, query: str, allowed: Collection[str]) -> dict[str, Any]:
    """The values of `query` by the field of `Address` that they set. name: of the source.

    Raises SourceError for an option that is not allowed, given twice or malformed.
    """
    return _read(name, query.split("&"), allowed)


def take_picture_options(name: str, query: str) -> tuple[dict[str, Any], str]:
    """The options of all sources out of a network camera's query, as `read_options` gives them, and
    the rest of the query, unchanged."""
    parts = query.split("&")
    ours = [part for part in parts if part.partition("=")[0] in PICTURE_OPTIONS]
    rest = "&".join(part for part in parts if part not in ours)
    return _read(name, ours, PICTURE_OPTIONS), rest


def _read(name: str, parts: Iterable[str], allowed: Collection[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for part in parts:
        key, equals, text = part.partition("=")
        if key not in allowed or not equals or key in values:
            raise SourceError(
                f"{name}: {redact_address(part)!r} is not an option here; give each of "
                f"{', '.join(allowed)} at most once, as key=value"
            )
        try:
            values[key] = _READERS[key](text)
        except ValueError as fault:
            raise SourceError(
                f"{name}: {key} must be {fault}, not {redact_address(text)!r}"
            ) from None
    if ("width" in values) != ("height" in values):
        raise SourceError(f"{name}: give width and height together")
    turned = [values.pop(key) for key in ("rotate", "flip") if key in values]
    if turned:  # the picture is rotated, and then flipped
        values["orientation"] = turned[0].then(turned[1] if len(turned) > 1 else UPRIGHT)
    view = {key: values.pop(key) for key in VIEW_OPTIONS if key in values}
    if view:
        values["view"] = View(**view)
    return values
