"""Encodes pictures as H.264 with the first encoder that works on this machine."""

from __future__ import annotations

import functools
import time
from fractions import Fraction
from typing import Any

import cv2
import numpy as np

from edge.errors import OutputError
from edge.outputs.overlay import Picture
from edge.video.gstreamer import Pipeline, load_gstreamer, trial_fault

STALL_S = 10.0  # an encoder that accepts no frame for so long will not recover
_QUEUE_FRAMES = 4

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


class PictureEncoder:
    """A pipeline from BGR pictures with their times over an encoder to `tail`.

    name: the GStreamer element that encodes. last_s: the time of the last picture; None: there was
    none.
    """

    def __init__(self, size_hw: tuple[int, int], frame_rate: float, tail: str) -> None:
        """size_hw: px, both even. frame_rate: nominal; the times of the pictures are used. tail:
        the elements after the parser, as for gst_parse_launch. Raises OutputError."""
        if any(side < 2 or side % 2 for side in size_hw):
            raise ValueError(f"H.264 needs even sides: {size_hw}")
        self.name = choose_encoder(size_hw)
        self.last_s: float | None = None
        self._size_hw, self._tail = size_hw, tail
        self._rate = Fraction(frame_rate).limit_denominator(1001)

    def open(self) -> None:
        """Build the pipeline; `start` runs it."""
        self._gst = load_gstreamer(OutputError)
        height, width = self._size_hw
        caps = self._gst.Gst.Caps.from_string(
            f"video/x-raw,format=I420,width={width},height={height},colorimetry=bt601,"
            f"framerate={self._rate.numerator}/{self._rate.denominator}"
        )
        self._info = self._gst.GstVideo.VideoInfo.new_from_caps(caps)
        self._pipeline = Pipeline(
            f"appsrc name=pictures format=time ! {ENCODERS[self.name]} ! h264parse ! {self._tail}",
            OutputError,
        )
        self._pictures = self._pipeline.element("pictures")
        self._pictures.set_property("caps", caps)
        self._pictures.set_property("max-bytes", _QUEUE_FRAMES * self._info.size)

    def start(self) -> None:
        self._pipeline.play()

    def element(self, name: str) -> Any:
        """An element of the tail."""
        return self._pipeline.element(name)

    @property
    def fault(self) -> str | None:
        """The first error of the pipeline in one line."""
        return self._pipeline.fault

    def write(self, picture: Picture, time_s: float) -> None:
        """Add a picture, (H, W, 3) BGR uint8; waits while the queue is full.

        time_s: later than that of the last picture. Raises OutputError if the pipeline fails.
        """
        if picture.shape != (*self._size_hw, 3) or picture.dtype != np.uint8:
            raise ValueError(f"expected {(*self._size_hw, 3)} uint8, got {picture.shape}")
        if time_s < 0 or (self.last_s is not None and time_s <= self.last_s):
            raise ValueError(f"times must rise from 0: {time_s} after {self.last_s}")
        self._await_room()
        buffer = self._gst.Gst.Buffer.new_wrapped(self._packed(picture))
        buffer.pts = round(time_s * 1e9)
        buffer.duration = round(1e9 / self._rate)
        self.last_s = time_s
        self._pictures.push_buffer(buffer)

    def end(self, bound_s: float) -> None:
        """Encode what waits, and end the stream. Raises OutputError if that fails or takes longer
        than `bound_s`."""
        self.await_end(bound_s)
        self._raise_fault()
        if not self._pipeline.ended:
            raise OutputError(f"the end was not written within {bound_s:g} s")

    def await_end(self, bound_s: float) -> None:
        """As `end`, but where it fails there is nothing more to do."""
        self._pictures.end_of_stream()
        self._pipeline.await_end(bound_s)

    def stop(self) -> None:
        """Release everything."""
        self._pipeline.stop()

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
        deadline_s = time.monotonic() + STALL_S
        self._pipeline.read_bus()
        self._raise_fault()
        while self._pictures.get_current_level_bytes() >= _QUEUE_FRAMES * self._info.size:
            self._pipeline.read_bus(0.005)
            self._raise_fault()
            if time.monotonic() > deadline_s:
                raise OutputError(f"{self.name} has accepted no picture for {STALL_S:g} s")

    def _raise_fault(self) -> None:
        if self._pipeline.fault is not None:
            raise OutputError(self._pipeline.fault)
