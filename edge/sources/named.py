"""The sources of `twostream run`: one or more, each with a name."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.errors import SourceError
from edge.sources.uri import Address, parse_address, split_options
from edge.video.find import find_videos, left_out_line

logger = logging.getLogger(__name__)

_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,31})=(.+)")


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A named source. uri: may hold a password, unlike name. slug: the name in letters, digits, -
    and _, for files, topics and paths; unique within a run.
    """

    name: str
    slug: str
    uri: str
    address: Address

    @property
    def live(self) -> bool:
        return self.address.live


def parse_sources(texts: Sequence[str]) -> list[SourceSpec]:
    """Parse `[NAME=]SOURCE` each; a folder stands for every video in it, and what is left out is
    logged.

    Raises SourceError if one is malformed or does not exist, two have the same name, files and
    cameras are mixed, or one before others never ends.
    """
    if not texts:
        raise SourceError("no source; give a file, a folder or a camera")
    specs: list[SourceSpec] = []
    for text in texts:
        name, uri = _split(text)
        for each in _expanded(uri):
            address = parse_address(each)
            shown = name if name and each == uri else address.name
            if any(spec.name == shown for spec in specs):
                raise SourceError(
                    f"{shown} is given twice; give each source its own name: NAME=SOURCE"
                )
            specs.append(SourceSpec(shown, _slug(shown, address, specs), each, address))
    if len({spec.live for spec in specs}) > 1:
        raise SourceError(
            f"{next(spec.name for spec in specs if not spec.live)} is a file, next to a camera; "
            "files and cameras cannot be mixed: run them separately"
        )
    if endless := [spec for spec in specs[:-1] if spec.address.endless]:
        raise SourceError(
            f"{endless[0].name} never ends, and files are run one after another; give it a length, "
            "test://?frames=N, or make it a camera, test://?live=1"
        )
    return specs


def placed_source(text: str) -> str:
    """`[NAME=]SOURCE` with an absolute path, so that it works from any folder."""
    name, uri = _split(text)
    place, query = split_options(uri)
    placed = _with_query(os.path.abspath(place), query) if os.path.exists(place) else uri
    return f"{name}={placed}" if name else placed


def _split(text: str) -> tuple[str, str]:
    """Name, or "", and address."""
    # a file may be called a=b.avi
    named = None if os.path.exists(split_options(text)[0]) else _NAMED.fullmatch(text)
    return (named[1], named[2]) if named else ("", text)


def _expanded(uri: str) -> list[str]:
    """The addresses that `uri` stands for: itself, or the videos in it, with the same options."""
    place, query = split_options(uri)
    if not os.path.isdir(place):
        return [uri]
    return [_with_query(video, query) for video in _videos(Path(place))]


def _with_query(place: str, query: str | None) -> str:
    return place if query is None else f"{place}?{query}"


def _videos(folder: Path) -> list[str]:
    found = find_videos(folder)
    line = left_out_line(folder, found.left_out) if found.left_out else ""
    if not found.videos:
        raise SourceError(line or f"{folder}: no video in this folder")
    if line:
        logger.warning("%s", line)
    return [str(path) for path in found.videos]


def _slug(name: str, address: Address, taken: Sequence[SourceSpec]) -> str:
    text = Path(name).stem if address.kind == "file" else name
    base = re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-")[:48] or "source"
    used = {spec.slug for spec in taken}
    slug, number = base, 2
    while slug in used:
        slug, number = f"{base}-{number}", number + 1
    return slug
