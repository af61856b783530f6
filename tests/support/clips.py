"""Small videos for the tests, made by GStreamer alone, so that no video is stored."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from edge.errors import TwostreamError
from edge.video.gstreamer import load_gstreamer

_ENCODERS = {
    "mpeg4": "avenc_mpeg4",
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10",
    "h264-b": "x264enc speed-preset=veryfast bframes=2 key-int-max=10",
    "mjpeg": "jpegenc",
    "ffv1": "avenc_ffv1",
}
_MUXERS = {
    ".avi": "avimux",
    ".mp4": "mp4mux",
    ".mkv": "matroskamux",
    ".ts": "mpegtsmux",
    ".h264": "h264parse ! video/x-h264,stream-format=byte-stream",
}


def run_pipeline(description: str, bound_s: float = 30.0) -> None:
    """Run to the end of the stream."""
    gst = load_gstreamer(TwostreamError).Gst
    _finish(gst, gst.parse_launch(description), bound_s)


def _finish(gst, pipeline, bound_s):
    pipeline.set_state(gst.State.PLAYING)
    wanted = gst.MessageType.ERROR | gst.MessageType.EOS
    message = pipeline.get_bus().timed_pop_filtered(int(bound_s * 1e9), wanted)
    pipeline.set_state(gst.State.NULL)
    assert message is not None, "the pipeline does not end"
    assert message.type == gst.MessageType.EOS, message.parse_error()


def write_clip(
    path: Path,
    *,
    frames: int = 30,
    size_hw: tuple[int, int] = (240, 320),
    rate: str = "25/1",
    codec: str = "mpeg4",
    pattern: str = "ball",
    audio_s: float = 0.0,
    caps: str = "format=I420",
) -> Path:
    """A moving test pattern; `audio_s` adds a sound track of that length. Returns `path`."""
    height, width = size_hw
    sound = ""
    if audio_s:
        buffers = round(audio_s * 44100 / 1024)
        sound = f"audiotestsrc num-buffers={buffers} ! avenc_aac ! mux."
    run_pipeline(
        f"videotestsrc num-buffers={frames} pattern={pattern} ! "
        f"video/x-raw,{caps},width={width},height={height},framerate={rate} ! "
        f"{_ENCODERS[codec]} ! {_MUXERS[path.suffix]}"
        f"{'' if path.suffix == '.h264' else ' name=mux'} ! filesink location={path} {sound}"
    )
    return path


def turn_clip(path: Path) -> Path:
    """Mark an MP4 as filmed with the camera on its side, as phones do: a quarter turn to show it.

    The matrix of the track header (ISO 14496-12, 8.3.2) is replaced; mp4mux 1.22 writes none.
    """
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    quarter = (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    content[matrix : matrix + 36] = struct.pack(">9i", *quarter)
    path.write_bytes(content)
    return path


def write_timed_clip(path: Path, times_s: list[float], size_hw: tuple[int, int] = (64, 96)) -> Path:
    """A variable-rate clip: one grey picture at each of `times_s`, its level being its number."""
    gst = load_gstreamer(TwostreamError).Gst
    height, width = size_hw
    pipeline = gst.parse_launch(
        "appsrc name=pictures format=time caps=video/x-raw,format=I420,"
        f"width={width},height={height},framerate=0/1 ! "
        f"{_ENCODERS['h264']} ! h264parse ! {_MUXERS[path.suffix]} ! filesink location={path}"
    )
    pictures = pipeline.get_by_name("pictures")
    for number, time_s in enumerate(times_s):
        levels = np.full(height * width * 3 // 2, 128, np.uint8)
        levels[: height * width] = 16 + number
        buffer = gst.Buffer.new_wrapped(levels.tobytes())
        buffer.pts = round(time_s * 1e9)
        buffer.duration = round(0.04 * 1e9)
        pictures.push_buffer(buffer)
    pictures.end_of_stream()
    _finish(gst, pipeline, 30.0)
    return path
