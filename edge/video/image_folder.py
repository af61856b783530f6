"""Reads a clip stored as a folder of JPEG images: frame000001.jpg, frame000002.jpg, ..."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2

from edge.errors import SourceError
from edge.video.frames import Frame, Plane

RATE_FPS = 25.0  # images have no times; most of UCF101 has this rate


def list_images(folder: Path) -> list[Path]:
    """The images of a clip in order."""
    return sorted(folder.glob("*.jpg"))


def read_image_folder(folder: Path) -> Iterator[Frame]:
    """The frames of a clip, at 25 a second.

    Chroma is subsampled again from the decoded colours; an odd last row or column is left out.
    Raises SourceError if an image cannot be read or has another size than the first.
    """
    size_hw: tuple[int, int] | None = None
    for index, file in enumerate(list_images(folder)):
        picture = cv2.imread(str(file), cv2.IMREAD_COLOR)  # (H, W, 3) BGR
        if picture is None:
            raise SourceError(f"{file}: not a readable image")
        height, width = (side // 2 * 2 for side in picture.shape[:2])
        if size_hw not in (None, (height, width)):
            raise SourceError(f"{file}: is {width} x {height}, unlike the images before it")
        size_hw = height, width
        planes: Plane = cv2.cvtColor(picture[:height, :width], cv2.COLOR_BGR2YUV_I420)  # type: ignore[assignment]
        chroma = planes[height:].reshape(2, height // 2, width // 2)
        yield Frame(planes[:height], chroma[0], chroma[1], index / RATE_FPS, index)
