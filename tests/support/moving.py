"""Videos of a texture that drifts by known px a frame, in codecs with motion vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.support.flows import texture

RATE = 25
DRIFT = (3, -2)  # px a frame, to the right and downwards
_MARGIN = 8


def write_drift(
    path: Path,
    codec: str = "libx264",
    *,
    b_frames: int = 0,
    frames: int = 26,
    drift: tuple[int, int] = DRIFT,
    size_hw: tuple[int, int] = (144, 176),
    gop: int = 12,
    options: Mapping[str, str] | None = None,
    times: Sequence[int] | None = None,
) -> Path:
    """times: of each picture in 25ths of a second, in place of 0, 1, 2; the picture shows where the
    texture is at its time. Returns `path`."""
    counts = list(times or range(frames))
    (height, width), (u, v) = size_hw, drift
    span_w, span_h = abs(u) * max(counts), abs(v) * max(counts)
    large = np.rint(texture((height + span_h + _MARGIN, width + span_w + _MARGIN)))
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=RATE, options=dict(options or {}))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 3_000_000
        stream.time_base = stream.codec_context.time_base = Fraction(1, RATE)
        stream.gop_size = gop
        stream.max_b_frames = b_frames
        for count in counts:
            left = span_w - u * count if u > 0 else -u * count
            top = span_h - v * count if v > 0 else -v * count
            picture = np.full((height * 3 // 2, width), 128, np.uint8)
            picture[:height] = large[top : top + height, left : left + width]
            frame = av.VideoFrame.from_ndarray(picture, "yuv420p")
            frame.pts, frame.time_base = count, Fraction(1, RATE)
            for packet in stream.encode(frame):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    return path
