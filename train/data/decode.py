"""Reads the frames of a clip, with the reader that runs use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edge.errors import DataError, SourceError
from edge.video.frames import Frame
from edge.video.image_folder import read_image_folder
from edge.video.video_file import VideoFile


def read_frames(path: Path) -> Iterator[Frame]:
    """The frames of a clip in the order of presentation, from a video or a folder of images.

    Raises DataError when it is neither; a video that breaks off gives what it has, and says so.
    """
    try:
        if path.is_dir():
            yield from read_image_folder(path)
        else:
            with VideoFile(path) as video:
                yield from video
    except SourceError as error:
        raise DataError(str(error)) from None
