"""The decoder of training: PyAV. Its planes are byte-identical to GStreamer's in live runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange

from edge.errors import DataError, SourceError
from edge.video.frames import Frame, Matrix, Plane, default_matrix
from edge.video.image_folder import list_images, read_image_folder

logger = logging.getLogger(__name__)

# H.273 matrix coefficients: 1 is BT.709, 5 and 6 are the two names of BT.601
_MATRICES: dict[int, Matrix] = {1: "bt709", 5: "bt601", 6: "bt601"}
# A clip of strangers may be a playlist: nothing but the file itself is read. FFmpeg's names.
_CONTAINERS = "avi,mov,matroska,mpeg,mpegvideo,mpegts,asf,flv,ogg,mxf,m4v,h264,hevc,ivf,dv"
_ONLY_THE_FILE = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}


def read_frames(path: Path, tell: bool = True) -> Iterator[Frame]:
    """The frames of a clip in presentation order, from a video or a folder of images.

    Raises DataError when it is neither; a video that breaks off gives what it has, which is logged
    unless the caller tells it in its own way.
    """
    if path.is_dir():
        try:
            yield from read_image_folder(path)
        except SourceError as error:
            raise DataError(str(error)) from None
    else:
        yield from _read_video(path, tell)


def announced_frames(path: Path) -> int | None:
    """The number of frames that a clip's container announces; None if it does not.

    Raises DataError as `read_frames` does.
    """
    if path.is_dir():
        return len(list_images(path))
    with _open(path) as container:
        return container.streams.video[0].frames or None


def _open(path: Path) -> av.container.InputContainer:
    try:
        # absolute: FFmpeg would take the beginning of a:b.avi for a protocol
        container = av.open(str(path.absolute()), options=_ONLY_THE_FILE)
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{path}: not a readable video ({error})") from None
    if not container.streams.video:
        container.close()
        raise DataError(f"{path}: has no video stream")
    return container


def _read_video(path: Path, tell: bool) -> Iterator[Frame]:
    with _open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = float(stream.average_rate or 25)
        # AVI keeps a rate and no time stamps: those made up for its B-frames go back and forth.
        timeless = container.format.name == "avi"
        start: float | None = None
        for index, picture in enumerate(_decode(container, stream, tell)):
            timed = not timeless and picture.time is not None
            time_s = float(picture.time) if timed else index / rate
            start = time_s if start is None else start
            yield _frame(picture, time_s - start, index)


def _decode(
    container: av.container.InputContainer, stream: av.VideoStream, tell: bool
) -> Iterator[av.VideoFrame]:
    frames = 0
    try:
        for picture in container.decode(stream):
            frames += 1
            yield picture
    except av.FFmpegError as error:
        if tell:
            text = "%s: breaks off after %d frames (%s)"
            logger.warning(text, container.name, frames, error)


def _frame(picture: av.VideoFrame, time_s: float, index: int) -> Frame:
    if picture.format.name not in ("yuv420p", "yuvj420p"):
        picture = picture.reformat(format="yuv420p")
    y, u, v = (_plane(plane) for plane in picture.planes)
    full_range = picture.format.name == "yuvj420p" or picture.color_range == ColorRange.JPEG
    matrix = _MATRICES.get(int(picture.colorspace), default_matrix(picture.height))
    return Frame(y, u, v, time_s, index, matrix, full_range)


def _plane(plane: av.video.plane.VideoPlane) -> Plane:
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]
