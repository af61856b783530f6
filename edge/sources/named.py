"""What `twostream run` is asked to look at: one source or several, each with a name."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.errors import SourceError
from edge.sources.uri import VIDEOS, Address, parse_address

_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,31})=(.+)")


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A source by name. uri: may hold a password, name never does. slug: the name in letters,
    digits, - and _, for files, topics and paths; no two sources of a run have the same.
    """

    name: str
    slug: str
    uri: str
    address: Address

    @property
    def live(self) -> bool:
        return self.address.live


def parse_sources(texts: Sequence[str]) -> list[SourceSpec]:
    """`[NAME=]SOURCE` each; a folder is every video in it, by name.

    Raises SourceError where one is malformed or does not exist, where two have the same name, and
    where files stand beside cameras.
    """
    if not texts:
        raise SourceError("there is no source; give a file, a folder or a camera")
    specs: list[SourceSpec] = []
    for text in texts:
        name, uri = _split(text)
        for each in _videos(Path(uri)) if os.path.isdir(uri) else [uri]:
            address = parse_address(each)
            shown = name if name and each == uri else address.name
            if any(spec.name == shown for spec in specs):
                raise SourceError(
                    f"{shown} is given twice; give each a name of its own: NAME=SOURCE"
                )
            specs.append(SourceSpec(shown, _slug(shown, address, specs), each, address))
    if len({spec.live for spec in specs}) > 1:
        raise SourceError(
            f"{next(spec.name for spec in specs if not spec.live)} is a file beside a camera; "
            "files are read to their end, cameras have none: run them apart"
        )
    return specs


def placed_source(text: str) -> str:
    """`[NAME=]SOURCE` that means the same from any folder."""
    name, uri = _split(text)
    placed = os.path.abspath(uri) if os.path.exists(uri) else uri
    return f"{name}={placed}" if name else placed


def _split(text: str) -> tuple[str, str]:
    """Name, or "", and address."""
    # a file may be called a=b.avi
    named = None if os.path.exists(text) else _NAMED.fullmatch(text)
    return (named[1], named[2]) if named else ("", text)


def _videos(folder: Path) -> list[str]:
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in VIDEOS and not path.name.startswith(".") and path.is_file()
    )
    if not found:
        raise SourceError(f"{folder}: no video in this folder ({', '.join(VIDEOS)})")
    return [str(path) for path in found]


def _slug(name: str, address: Address, taken: Sequence[SourceSpec]) -> str:
    text = Path(name).stem if address.kind == "file" else name
    base = re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-")[:48] or "source"
    used = {spec.slug for spec in taken}
    slug, number = base, 2
    while slug in used:
        slug, number = f"{base}-{number}", number + 1
    return slug
