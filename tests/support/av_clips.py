"""Videos in containers and codecs of all kinds, made by PyAV."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def write_video(
    path: Path,
    container: str | None = None,
    codec: str = "mpeg4",
    *,
    frames: int = 12,
    size_hw: tuple[int, int] = (48, 64),
    rate: int = 25,
    first_level: int = 20,
    pixels: str = "yuv420p",
) -> Path:
    """Grey pictures that become lighter. container: FFmpeg's name; None: what the ending says.
    first_level: makes two videos different. pixels: 4:2:0."""
    height, width = size_hw
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        for number in range(frames):
            levels = np.full((height * 3 // 2, width), 128, np.uint8)
            levels[:height] = first_level + 3 * number
            for packet in stream.encode(av.VideoFrame.from_ndarray(levels, pixels)):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    return path


def write_sound(path: Path, container: str | None = None, codec: str = "pcm_s16le") -> Path:
    """A second of silence."""
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
        frame.rate = 8000
        for packet in [*stream.encode(frame), *stream.encode()]:
            out.mux(packet)
    return path
