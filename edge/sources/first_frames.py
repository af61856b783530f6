"""Finds the files that crash the decoder before the run meets them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from edge.errors import SourceError
from edge.sources.uri import parse_address
from edge.video.clip import open_clip
from edge.video.isolation import Death, map_apart

FRAMES = 8  # enough to fill a decoder that reorders them


def crashes(uris: Sequence[str]) -> Generator[str | None]:
    """Of each file, why it crashes the decoder; None for one that does not.

    The first frames of the next file are read in another process while the caller uses this one. A
    single file is not tried: there is no other that it could take along. What can merely not be
    read, and every warning, is left to the caller, who will see it.
    """
    if len(uris) < 2:
        yield from (None for _ in uris)
        return
    with closing(map_apart(_read_first, uris)) as deaths:
        for death in deaths:
            yield death.reason if isinstance(death, Death) else None


def _read_first(uri: str) -> None:
    try:
        with open_clip(Path(parse_address(uri).location), quiet=True) as source:
            for _ in islice(source, FRAMES):
                pass
    except SourceError:
        pass
