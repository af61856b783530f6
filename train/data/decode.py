"""Reads the frames of a clip, with the reader that runs use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edge.errors import DataError, SourceError
from edge.video.clip import open_clip
from edge.video.frames import Frame


def read_frames(path: Path, vectors: bool = False) -> Iterator[Frame]:
    """The frames of a clip in the order of presentation, from a video or a folder of images.

    vectors: with the motion vectors of the codec. Raises DataError when it is neither, or has no
    vectors; a video that breaks off gives what it has, and says so.
    """
    try:
        with open_clip(path, vectors=vectors) as clip:
            yield from clip
    except SourceError as error:
        raise DataError(str(error)) from None
