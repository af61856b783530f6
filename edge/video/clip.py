"""Opens a clip: a video file, or a folder of numbered pictures."""

from __future__ import annotations

from pathlib import Path

from edge.errors import SourceError
from edge.video.image_folder import ImageFolder
from edge.video.orientation import UPRIGHT, Orientation
from edge.video.video_file import VideoFile
from edge.video.view import WHOLE, View


def open_clip(
    path: Path,
    orientation: Orientation = UPRIGHT,
    view: View = WHOLE,
    *,
    quiet: bool = False,
    vectors: bool = False,
) -> VideoFile | ImageFolder:
    """An iterator of frames to use in `with`; see VideoFile.

    orientation: how to turn the frames after the file's own orientation. view: what is used of them
    then. quiet: warnings are not logged. vectors: the frames have the motion vectors of their
    codec. Raises SourceError, here or in `with`, if it cannot be read or has no vectors.
    """
    if path.is_dir():
        if vectors:
            raise SourceError(
                f"{path}: pictures have no motion vectors, which this network needs; give the "
                "video that they were made of, or take a network for TV-L1 flow"
            )
        return ImageFolder(path, orientation, view)
    return VideoFile(path, orientation, view, quiet=quiet, vectors=vectors)
