"""The memory layout and the colours of I420 and grey frames in GStreamer buffers."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge.errors import SourceError
from edge.video.frames import Matrix, Plane, default_matrix
from edge.video.gstreamer import load_gstreamer

_RATE_MAX_FPS = 1000
_PIXEL_ASPECT_MAX = 10  # a pixel that is longer than this does not come from a camera
_NEUTRAL = 128  # chroma without colour


@dataclass(frozen=True, slots=True)
class I420Layout:
    """size_hw: px; offsets, strides: of Y, U and V in bytes, of Y alone if the picture is grey;
    matrix: None if Frame does not support it; pixel_aspect: width : height of a pixel."""

    size_hw: tuple[int, int]
    offsets: tuple[int, ...]
    strides: tuple[int, ...]
    matrix: Matrix | None
    full_range: bool
    frame_rate: float | None
    pixel_aspect: tuple[int, int] = (1, 1)


def layout_of_caps(caps: Any, decoded: Any) -> I420Layout:
    """The default layout for `caps` (I420 or GRAY8): rows padded to 4 bytes, planes one after the
    other. decoded: the caps of the picture before its conversion to `caps`."""
    info = load_gstreamer(SourceError).GstVideo.VideoInfo.new_from_caps(caps)
    matrix, full_range = _colours(caps, decoded)
    aspect = (info.par_n, info.par_d)
    usable = 0 < max(aspect) <= _PIXEL_ASPECT_MAX * min(aspect)
    return I420Layout(
        (info.height, info.width),
        tuple(info.offset[: info.finfo.n_planes]),
        tuple(info.stride[: info.finfo.n_planes]),
        matrix,
        full_range,
        # 0/1 is a variable rate; MP4 files with irregular times may state 1000000000/1
        info.fps_n / info.fps_d if 0 < info.fps_n <= _RATE_MAX_FPS * info.fps_d else None,
        aspect if usable else (1, 1),
    )


def _colours(caps: Any, decoded: Any) -> tuple[Matrix | None, bool]:
    """Matrix and whether the range is full, as the decoder states them.

    The converter changes the arrangement of YUV and grey pictures, not their values. But what it
    says of them is less: nvvidconv deletes the colorimetry, and VideoInfo discards all of it where
    the matrix is unknown, though the range (`1:0:0:0`) is not. Only for RGB the converter chooses.
    """
    video = load_gstreamer(SourceError).GstVideo
    source = video.VideoFormat.from_string(decoded.get_structure(0).get_string("format") or "")
    flags = video.VideoFormat.get_info(source).flags
    grey = bool(flags & video.VideoFormatFlags.GRAY)
    structure = (caps if flags & video.VideoFormatFlags.RGB else decoded).get_structure(0)
    height = structure.get_int("height").value
    colorimetry = video.VideoColorimetry()
    if not colorimetry.from_string(structure.get_string("colorimetry") or ""):
        return default_matrix(height), grey  # grey pictures are full range by convention
    full, limited = (
        getattr(video.VideoColorRange, "0_255"),
        getattr(video.VideoColorRange, "16_235"),
    )
    full_range = colorimetry.range == full or (grey and colorimetry.range != limited)
    matrices: dict[Any, Matrix] = {
        video.VideoColorMatrix.BT601: "bt601",
        video.VideoColorMatrix.BT709: "bt709",
        video.VideoColorMatrix.UNKNOWN: default_matrix(height),
    }
    if grey:
        return default_matrix(height), full_range  # it has no chroma for a matrix
    return matrices.get(colorimetry.matrix), full_range


def layout_of_buffer(buffer: Any, default: I420Layout) -> I420Layout:
    """The layout of one buffer: drivers and decoders may pad more, which a meta states."""
    meta = load_gstreamer(SourceError).GstVideo.buffer_get_video_meta(buffer)
    if meta is None:
        return default
    planes = len(default.offsets)
    return replace(
        default, offsets=tuple(meta.offset[:planes]), strides=tuple(meta.stride[:planes])
    )


def i420_planes(flat: Plane, layout: I420Layout) -> tuple[Plane, Plane, Plane]:
    """Views of Y (H, W), U and V (ceil(H/2), ceil(W/2)) in the bytes `flat` of a buffer; neutral
    chroma for a grey picture.

    Raises SourceError if the buffer is too small for them.
    """
    height, width = layout.size_hw
    half = ((height + 1) // 2, (width + 1) // 2)
    places = zip(((height, width), half, half), layout.offsets, layout.strides, strict=False)
    try:
        planes = [
            np.ndarray(shape, np.uint8, flat, offset, (stride, 1))
            for shape, offset, stride in places
        ]
    except (TypeError, ValueError):  # an offset or rows past the end
        raise SourceError(
            f"a buffer of {flat.size} bytes is too small for a {width}x{height} I420 frame with "
            f"strides {layout.strides}: the driver or decoder misreports its layout"
        ) from None
    if len(planes) == 1:
        planes += [_neutral_chroma(half)] * 2
    y, u, v = planes
    return y, u, v


@functools.lru_cache(maxsize=4)
def _neutral_chroma(size_hw: tuple[int, int]) -> Plane:
    plane = np.full(size_hw, _NEUTRAL, np.uint8)
    plane.flags.writeable = False
    return plane
