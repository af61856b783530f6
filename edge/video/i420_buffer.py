"""The memory layout of I420 frames in GStreamer buffers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge.errors import SourceError
from edge.video.frames import Matrix, Plane, default_matrix
from edge.video.gstreamer import load_gstreamer

_RATE_MAX_FPS = 1000


@dataclass(frozen=True, slots=True)
class I420Layout:
    """size_hw: px; offsets, strides: of Y, U and V in bytes; matrix: None if Frame does not support
    it."""

    size_hw: tuple[int, int]
    offsets: tuple[int, ...]
    strides: tuple[int, ...]
    matrix: Matrix | None
    full_range: bool
    frame_rate: float | None


def layout_of_caps(caps: Any) -> I420Layout:
    """The default layout for `caps`: rows padded to 4 bytes, planes one after the other."""
    video = load_gstreamer(SourceError).GstVideo
    info = video.VideoInfo.new_from_caps(caps)
    matrices: dict[Any, Matrix] = {
        video.VideoColorMatrix.BT601: "bt601",
        video.VideoColorMatrix.BT709: "bt709",
        video.VideoColorMatrix.UNKNOWN: default_matrix(info.height),
    }
    return I420Layout(
        (info.height, info.width),
        tuple(info.offset[:3]),
        tuple(info.stride[:3]),
        matrices.get(info.colorimetry.matrix),
        info.colorimetry.range == getattr(video.VideoColorRange, "0_255"),
        # 0/1 is a variable rate; MP4 files with irregular times may state 1000000000/1
        info.fps_n / info.fps_d if 0 < info.fps_n <= _RATE_MAX_FPS * info.fps_d else None,
    )


def layout_of_buffer(buffer: Any, default: I420Layout) -> I420Layout:
    """The layout of one buffer: drivers and decoders may pad more, which a meta states."""
    meta = load_gstreamer(SourceError).GstVideo.buffer_get_video_meta(buffer)
    if meta is None:
        return default
    return replace(default, offsets=tuple(meta.offset[:3]), strides=tuple(meta.stride[:3]))


def i420_planes(flat: Plane, layout: I420Layout) -> tuple[Plane, Plane, Plane]:
    """Views of Y (H, W), U and V (ceil(H/2), ceil(W/2)) in the bytes `flat` of a buffer.

    Raises SourceError if the buffer is too small for them.
    """
    height, width = layout.size_hw
    half = ((height + 1) // 2, (width + 1) // 2)
    places = zip(((height, width), half, half), layout.offsets, layout.strides, strict=True)
    try:
        y, u, v = (
            np.ndarray(shape, np.uint8, flat, offset, (stride, 1))
            for shape, offset, stride in places
        )
    except (TypeError, ValueError):  # an offset or rows past the end
        raise SourceError(
            f"a buffer of {flat.size} bytes is too small for a {width}x{height} I420 frame with "
            f"strides {layout.strides}: the driver or decoder misreports its layout"
        ) from None
    return y, u, v
