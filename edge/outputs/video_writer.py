"""Writes annotated video as H.264 in .mp4 or .mkv.

It is written as `NAME.part` and renamed to `NAME` in `finish()`, so that a file under its final
name is always complete. After an error or a kill `NAME.part` remains and can be played; a power cut
loses its last half second.
"""

from __future__ import annotations

import functools
import os
import time
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from edge.errors import OutputError
from edge.outputs.overlay import Picture
from edge.outputs.part_file import PartFile, check_place, check_room
from edge.video.gstreamer import Pipeline, load_gstreamer, trial_fault

_QUEUE_FRAMES = 4
_STALL_S = 10.0  # an encoder that accepts no frame for so long will not recover
_END_S = 30.0  # for writing the last frames and the index

_MUXERS = {
    # A fragment each second: after a power cut all but the last second is playable.
    ".mp4": "mp4mux fragment-duration=1000",
    ".mkv": "matroskamux",
}
# In order of preference. An installed element may not work (a distribution may ship it for hardware
# that is not there), so the first that really encodes is used. nvv4l2h264enc has not been tested:
# it was written from NVIDIA's documentation.
ENCODERS = {
    "nvv4l2h264enc": (
        "nvvidconv ! video/x-raw(memory:NVMM),format=NV12 ! nvv4l2h264enc insert-sps-pps=1 "
        "insert-vui=1 idrinterval=30 maxperf-enable=1"
    ),
    "x264enc": (
        "x264enc tune=zerolatency speed-preset=veryfast pass=qual quantizer=23 key-int-max=30"
    ),
    "openh264enc": "openh264enc complexity=low bitrate=3000000 gop-size=30",
}


@functools.cache
def choose_encoder(size_hw: tuple[int, int]) -> str:
    """The first H.264 encoder that works on this machine for this size. Raises OutputError."""
    load_gstreamer(OutputError)
    height, width = size_hw
    caps = f"video/x-raw,format=I420,width={width},height={height},framerate=30/1"
    outcomes = []
    for name, encoder in ENCODERS.items():
        fault = trial_fault(f"{encoder} ! h264parse", caps)
        if fault is None:
            return name
        outcomes.append(f"{name}: {fault}")
    raise OutputError(
        f"no H.264 encoder works for {width}x{height} ({'; '.join(outcomes)}); "
        "run `sudo apt install gstreamer1.0-plugins-ugly gstreamer1.0-plugins-bad`"
    )


def _check_ending(path: Path) -> None:
    if path.suffix.lower() not in _MUXERS:
        raise OutputError(f"{path}: video is written as .mp4 or .mkv; use one of these endings")


def check_video(path: Path) -> None:
    """Raises OutputError if no video can be written there. Does not touch the file, which may be
    left from an earlier run."""
    _check_ending(path)
    check_place(path)
    if not os.access(path.parent, os.W_OK):
        raise OutputError(
            f"{path.parent}: Permission denied; choose a folder that you may write to"
        )
    check_room(path)


class VideoWriter:
    """Writes H.264 in .mp4 or .mkv from BGR pictures with their times.

    with VideoWriter("out.mp4", picture_size(source.size_hw), 25.0) as writer:
        writer.write(picture, frame.time_s)
        writer.finish()

    encoder: the GStreamer element in use. Without `finish()` the video stays in `NAME.part`, which
    can be played. If no picture is written, there is no file.
    """

    def __init__(self, path: str | Path, size_hw: tuple[int, int], frame_rate: float) -> None:
        """size_hw: px, both even. frame_rate: nominal; the times of the pictures are used."""
        path = Path(path)
        _check_ending(path)
        if any(side < 2 or side % 2 for side in size_hw):
            raise ValueError(f"H.264 needs even sides: {size_hw}")
        self.encoder = choose_encoder(size_hw)
        self._size_hw = size_hw
        self._rate = Fraction(frame_rate).limit_denominator(1001)
        self._part = PartFile(path)
        self._last_s: float | None = None
        self._finished = False

    def __enter__(self) -> VideoWriter:
        self._gst = load_gstreamer(OutputError)
        height, width = self._size_hw
        caps = self._gst.Gst.Caps.from_string(
            f"video/x-raw,format=I420,width={width},height={height},colorimetry=bt601,"
            f"framerate={self._rate.numerator}/{self._rate.denominator}"
        )
        self._info = self._gst.GstVideo.VideoInfo.new_from_caps(caps)
        self._pipeline = Pipeline(
            f"appsrc name=pictures format=time ! {ENCODERS[self.encoder]} ! h264parse "
            f"! {_MUXERS[self._part.path.suffix.lower()]} "
            "! filesink name=file sync=false buffer-mode=unbuffered",
            OutputError,
        )
        self._pictures = self._pipeline.element("pictures")
        self._pictures.set_property("caps", caps)
        self._pictures.set_property("max-bytes", _QUEUE_FRAMES * self._info.size)
        self._pipeline.element("file").set_property("location", str(self._part.part))
        self._pipeline.play()
        self._part.keep()
        return self

    def write(self, picture: Picture, time_s: float) -> None:
        """Add a picture, (H, W, 3) BGR uint8; waits while the encoder's queue is full.

        time_s: later than that of the last picture. Raises OutputError if the encoder or the disk
        fails.
        """
        if picture.shape != (*self._size_hw, 3) or picture.dtype != np.uint8:
            raise ValueError(f"expected {(*self._size_hw, 3)} uint8, got {picture.shape}")
        if time_s < 0 or (self._last_s is not None and time_s <= self._last_s):
            raise ValueError(f"times must rise from 0: {time_s} after {self._last_s}")
        self._await_room()
        buffer = self._gst.Gst.Buffer.new_wrapped(self._packed(picture))
        buffer.pts = round(time_s * 1e9)
        buffer.duration = round(1e9 / self._rate)
        self._last_s = time_s
        self._pictures.push_buffer(buffer)

    def finish(self) -> None:
        """Call at the regular end: write the remaining frames, then rename the file."""
        if self._last_s is None:
            return
        self._finished = True
        self._end(_END_S)
        self._pipeline.stop()
        self._part.publish()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            unfinished = self._last_s is not None and not self._finished
            if unfinished and self._pipeline.fault is None:
                self._pictures.end_of_stream()
                self._pipeline.await_end(_STALL_S)
        finally:
            self._pipeline.stop()
            self._part.discard_if_empty()

    def _packed(self, picture: Picture) -> bytes:
        """I420 with GStreamer's row padding."""
        height, width = self._size_hw
        i420 = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420).reshape(-1)
        packed = np.zeros(self._info.size, np.uint8)
        begin = 0
        for plane, (rows, columns) in enumerate(
            ((height, width), (height // 2, width // 2), (height // 2, width // 2))
        ):
            stride, offset = self._info.stride[plane], self._info.offset[plane]
            target = packed[offset : offset + rows * stride].reshape(rows, stride)
            target[:, :columns] = i420[begin : begin + rows * columns].reshape(rows, columns)
            begin += rows * columns
        return packed.tobytes()

    def _await_room(self) -> None:
        """Wait for room in the queue. appsrc could block itself, but blocks for ever once the
        pipeline has failed."""
        deadline_s = time.monotonic() + _STALL_S
        self._pipeline.read_bus()
        self._raise_fault()
        while self._pictures.get_current_level_bytes() >= _QUEUE_FRAMES * self._info.size:
            self._pipeline.read_bus(0.005)
            self._raise_fault()
            if time.monotonic() > deadline_s:
                raise OutputError(
                    f"{self._part.path}: {self.encoder} has accepted no picture for {_STALL_S:g} s"
                )

    def _raise_fault(self) -> None:
        self._part.check()
        if self._pipeline.fault is not None:
            raise OutputError(
                f"{self._part.path}: {self._pipeline.fault}; the recording so far is in "
                f"{self._part.part}"
            )

    def _end(self, bound_s: float) -> None:
        self._pictures.end_of_stream()
        self._pipeline.await_end(bound_s)
        self._raise_fault()
        if not self._pipeline.ended:
            raise OutputError(
                f"{self._part.path}: the end was not written within {bound_s:g} s; the recording "
                f"so far is in {self._part.part}"
            )
