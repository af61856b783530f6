"""Video in: a file, a camera, an RTSP stream or a test pattern, as I420 frames with their times.

    with open_source("clip.avi") as source:
        for frame in source: ...

A file is never hurried: no frame is dropped, however slow the caller. A live source never lags: the
newest frame wins and the others are counted as dropped. GStreamer decodes and converts the colour
format; geometry happens in `edge.frames` alone.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from edge.address import Address, parse_address, pipeline_description
from edge.errors import SourceError
from edge.frames import Frame, Matrix, Plane, default_matrix
from edge.gstreamer import Pipeline, has_element, load_gstreamer

_POLL_S = 0.2  # appsink does not wake on an error, so the bus is read at least this often
_MAPPED_MAX = 4  # buffers lent to the caller at once: a decoder's pool may have few more
_REMEDY = {
    "file": "check that it plays with `gst-play-1.0 FILE`",
    "v4l2": "check that no other program uses the camera and that you are in the group `video`",
    "rtsp": "check the address, the network, the user and the password",
    "csi": "check the ribbon cable and that nvargus-daemon runs",
    "test": "see `gst-inspect-1.0 videotestsrc`",
}


def open_source(uri: str, *, timeout_s: float = 10.0) -> Source:
    """A source to be entered by `with`; see `edge.address` for what `uri` may be.

    timeout_s: a source that gives nothing for so long, at the start or later, is a SourceError.
    Raises SourceError at once where the address is malformed or what it names does not exist.
    """
    return Source(parse_address(uri), timeout_s)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the planes of a buffer lie, from its caps."""

    size_hw: tuple[int, int]
    offsets: tuple[int, ...]  # bytes, of Y, U, V
    strides: tuple[int, ...]  # bytes a row, of Y, U, V
    matrix: Matrix | None  # None: one that Frame does not know
    full_range: bool
    frame_rate: float | None


def _layout(caps: Any) -> _Layout:
    video = load_gstreamer(SourceError).GstVideo
    info = video.VideoInfo.new_from_caps(caps)
    matrices: dict[Any, Matrix] = {
        video.VideoColorMatrix.BT601: "bt601",
        video.VideoColorMatrix.BT709: "bt709",
        video.VideoColorMatrix.UNKNOWN: default_matrix(info.height),
    }
    return _Layout(
        (info.height, info.width),
        tuple(info.offset[:3]),
        tuple(info.stride[:3]),
        matrices.get(info.colorimetry.matrix),
        info.colorimetry.range == getattr(video.VideoColorRange, "0_255"),
        info.fps_n / info.fps_d if info.fps_n > 0 else None,
    )


def _planes(
    flat: Plane, size_hw: tuple[int, int], offsets: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[Plane, Plane, Plane]:
    """Views of Y (H, W), U and V (ceil(H/2), ceil(W/2)) in a mapped buffer; padding is left out.

    Raises SourceError where the buffer is too small for them.
    """
    height, width = size_hw
    half = ((height + 1) // 2, (width + 1) // 2)
    try:
        y, u, v = (
            np.ndarray(shape, np.uint8, flat, offset, (stride, 1))
            for shape, offset, stride in zip(
                ((height, width), half, half), offsets, strides, strict=True
            )
        )
    except TypeError:
        raise SourceError(
            f"a buffer of {flat.size} bytes is too small for a {width}x{height} I420 frame with "
            f"strides {strides}: the driver or decoder misreports its layout"
        ) from None
    return y, u, v


class Source:
    """An iterator of frames, started by `with`.

    live: frames are dropped when the caller is slow. size_hw: px, the same for all frames.
    frame_rate: nominal frames a second, None where the stream does not say.
    expected_frames: how many a file's container announces (an estimate from its duration where it
    keeps no count), None where unknown.
    received: frames that came out of the decoder; dropped: those replaced by a newer one before the
    caller asked. Of the received, all but the dropped and at most one still waiting were given out.
    warnings: one line each; complete when the iteration has ended. A network camera whose server
    goes away may end the iteration instead of raising an error; the reason is in the warnings.

    A frame's planes are read-only views of the decoder's buffer, mapped without a copy. They stay
    valid for as long as any of them is referred to, past the next step and past the end of the
    `with`; while a caller holds more than four frames, further ones are copies.
    """

    def __init__(self, address: Address, timeout_s: float) -> None:
        self.live = address.live
        self.size_hw = (0, 0)
        self.frame_rate: float | None = None
        self.expected_frames: int | None = None
        self.received = 0
        self.dropped = 0
        self.warnings: list[str] = []
        self._address = address
        self._timeout_s = timeout_s
        self._announced_slack = 0
        self._mapped: list[weakref.finalize] = []
        self._arrival = threading.Condition()
        self._newest: tuple[int, Any] | None = None  # (index, sample), live only
        self._first: tuple[int, Any] | None = None  # fetched by __enter__
        self._caps: Any = None
        self._layout: _Layout | None = None
        self._origin_ns: float | None = None
        self._last: tuple[int, float] | None = None  # (index, time_s) of the frame given out last
        self._untimed = 0
        self._given = 0
        self._over = False

    def __enter__(self) -> Source:
        self._gst = load_gstreamer(SourceError)
        if self._address.kind == "csi" and not has_element("nvarguscamerasrc"):
            raise SourceError(
                f"{self._address.name}: CSI cameras need a Jetson with the package "
                "nvidia-l4t-gstreamer; the element nvarguscamerasrc is not installed"
            )
        description = pipeline_description(self._address, nvidia=has_element("nvvidconv"))
        self._pipeline = Pipeline(description, SourceError)
        try:
            self._configure()
            self._pipeline.play()
            self._first = self._next_sample()
            if self._first is None:
                raise SourceError(f"{self._address.name}: it ends before its first frame")
            self._take_caps(self._first[1].get_caps(), 0)
            self._count_announced()
            if self.live:
                self._put_back(self._first)
        except BaseException:
            self._pipeline.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pipeline.stop()
        self._first = self._newest = None

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        if self._over:
            raise StopIteration
        arrival, self._first = self._first or self._next_sample(), None
        if arrival is None:
            self._over = True
            self._note_end()
            raise StopIteration
        index, sample = arrival
        self._take_caps(sample.get_caps(), index)
        self._given += 1
        return self._frame(index, sample)

    def _configure(self) -> None:
        """Set what must not go through the parser: paths and addresses may hold any character."""
        element = self._pipeline.element("origin")
        if self._address.kind in ("file", "rtsp"):
            element.set_property("location", self._address.location)
        if self._address.kind == "file":
            element.link(self._pipeline.element("decoder"))
        elif self._address.kind == "v4l2":
            element.set_property("device", self._address.location)
        elif self._address.kind == "test":
            try:
                element.set_property("pattern", self._address.pattern)
            except TypeError:
                raise SourceError(
                    f"{self._address.name}: there is no pattern {self._address.pattern!r}; "
                    f"{_REMEDY['test']}"
                ) from None
        self._sink = self._pipeline.element("frames")
        if self.live:
            self._sink.connect("new-sample", self._on_new_sample)

    def _put_back(self, arrival: tuple[int, Any]) -> None:
        """A live source's first frame waits like any other: it may be old when it is asked for."""
        with self._arrival:
            if self._newest is None:
                self._newest = arrival
            else:
                self.dropped += 1
        self._first = None

    def _on_new_sample(self, sink: Any) -> Any:
        """GStreamer's thread: the newest frame takes the place of one that was not fetched.

        appsink could drop by itself, but then neither the count nor the index of what is left would
        be exact.
        """
        if sample := sink.try_pull_sample(0):
            with self._arrival:
                self.dropped += self._newest is not None
                self._newest = (self.received, sample)
                self.received += 1
                self._arrival.notify()
        return self._gst.Gst.FlowReturn.OK

    def _pull(self, timeout_s: float) -> tuple[int, Any] | None:
        """(index, sample) within `timeout_s`, or None."""
        if self.live:
            with self._arrival:
                if self._newest is None:
                    self._arrival.wait(timeout_s)
                arrival, self._newest = self._newest, None
                return arrival
        sample = self._sink.try_pull_sample(int(timeout_s * 1e9))
        if sample is None:
            return None
        self.received += 1
        return self.received - 1, sample

    def _next_sample(self) -> tuple[int, Any] | None:
        """The next one, or None at the end. Raises SourceError at a fault or after `timeout_s`."""
        pipeline = self._pipeline
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            pipeline.read_bus()  # before the pull, so that nothing sent before the end is lost
            over = pipeline.ended or pipeline.fault is not None
            if arrival := self._pull(0.0 if over else _POLL_S):
                return arrival
            if self.received == 0 and pipeline.has_video is False:
                pipeline.fault = pipeline.fault or "no video"
            elif self.received == 0 and pipeline.demuxer_gave_up():
                pipeline.fault = pipeline.fault or "its header is damaged or cut short"
            if pipeline.fault is not None and (self.live or self.received == 0):
                raise SourceError(self._explain(pipeline.fault))
            if over:  # a file that breaks off after some frames is reported in the warnings
                return None
            if time.monotonic() > deadline_s:
                raise SourceError(
                    f"{self._address.name}: no frame for {self._timeout_s:g} s; "
                    f"{_REMEDY[self._address.kind]}"
                )

    def _explain(self, fault: str) -> str:
        name, missing = self._address.name, self._pipeline.missing
        if missing:
            return (
                f"{name}: no decoder is installed for {', '.join(missing)}; run `sudo apt install "
                "gstreamer1.0-libav gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly`"
            )
        if self._pipeline.has_video is False:
            return f"{name}: there is no video in it, only other streams; give a file with video"
        return f"{name}: {fault}; {_REMEDY[self._address.kind]}"

    def _take_caps(self, caps: Any, index: int) -> None:
        if self._caps is not None and caps.is_equal(self._caps):
            return
        layout = _layout(caps)
        if self._layout is None:
            self.size_hw, self.frame_rate = layout.size_hw, layout.frame_rate
            if layout.matrix is None:
                self.warnings.append(
                    f"{self._address.name}: its colour matrix is neither BT.601 nor BT.709; "
                    f"{default_matrix(layout.size_hw[0])} is used"
                )
        elif layout.size_hw != self.size_hw:
            (old_h, old_w), (new_h, new_w) = self.size_hw, layout.size_hw
            raise SourceError(
                f"{self._address.name}: the picture changes from {old_w}x{old_h} to {new_w}x{new_h}"
                f" at frame {index}; open it again, or convert the file to one size"
            )
        self._caps, self._layout = caps, layout

    def _frame(self, index: int, sample: Any) -> Frame:
        layout = self._layout
        assert layout is not None
        buffer = sample.get_buffer()
        offsets, strides = layout.offsets, layout.strides
        if meta := self._gst.GstVideo.buffer_get_video_meta(buffer):
            offsets, strides = tuple(meta.offset[:3]), tuple(meta.stride[:3])
        planes = _planes(self._map(buffer), layout.size_hw, offsets, strides)
        running_ns = sample.get_segment().to_running_time(self._gst.Gst.Format.TIME, buffer.pts)
        known = running_ns != self._gst.Gst.CLOCK_TIME_NONE
        return Frame(
            *planes,
            time_s=self._time_s(index, running_ns if known else None),
            index=index,
            matrix=layout.matrix or default_matrix(layout.size_hw[0]),
            full_range=layout.full_range,
        )

    def _map(self, buffer: Any) -> Plane:
        """The bytes of a buffer; it is unmapped when the last view of them is gone."""
        known, info = buffer.map(self._gst.Gst.MapFlags.READ)
        if not known:
            raise SourceError(f"{self._address.name}: a frame's memory cannot be mapped")
        flat: Plane = np.frombuffer(info.data, np.uint8)
        self._mapped = [mapping for mapping in self._mapped if mapping.alive]
        if len(self._mapped) > _MAPPED_MAX:
            flat = flat.copy()
            buffer.unmap(info)
        else:
            mapping = weakref.finalize(flat, buffer.unmap, info)
            mapping.atexit = False
            self._mapped.append(mapping)
        return flat

    def _time_s(self, index: int, running_ns: int | None) -> float:
        """Seconds since the first frame, strictly increasing.

        A stamp that is missing, or not later than the one before, is replaced by the time that the
        frame rate gives, and counted.
        """
        expected_s = 0.0
        if self._last is not None:
            last_index, last_s = self._last
            expected_s = last_s + (index - last_index) / (self.frame_rate or np.inf)
        if running_ns is not None and self._origin_ns is None:
            self._origin_ns = running_ns - expected_s * 1e9
        time_s = expected_s
        if running_ns is not None and self._origin_ns is not None:
            time_s = (running_ns - self._origin_ns) / 1e9
        if running_ns is None or (self._last is not None and time_s <= self._last[1]):
            self._untimed += 1
            time_s = expected_s
            if self._last is not None and time_s <= self._last[1]:
                raise SourceError(
                    f"{self._address.name}: frame {index} has no usable time stamp and the stream "
                    "states no frame rate; put it in a container that does, such as .mkv"
                )
        self._last = (index, time_s)
        return time_s

    def _count_announced(self) -> None:
        """Set `expected_frames`.

        GStreamer gives a duration, which for a truncated AVI is that of what is left and for an MP4
        that of the longest track; FFmpeg, inside OpenCV, reads the count that both containers keep.
        """
        address = self._address
        if address.kind == "test":
            self.expected_frames = address.frames
        if address.kind != "file":
            return
        with Path(address.location).open("rb") as file:
            head = file.read(12)
        if head[:4] == b"RIFF" or head[4:8] == b"ftyp":
            capture = cv2.VideoCapture(address.location, cv2.CAP_FFMPEG)
            count = round(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            capture.release()
            if count > 0:
                self.expected_frames, self._announced_slack = count, 1
                return
        duration_s = self._pipeline.duration_s()
        if duration_s is not None and self.frame_rate is not None:
            self.expected_frames = round(duration_s * self.frame_rate)
            self._announced_slack = max(2, self.expected_frames // 20)

    def _note_end(self) -> None:
        """Complete the warnings."""
        name, pipeline = self._address.name, self._pipeline
        if self._untimed:
            self.warnings.append(
                f"{name}: {self._untimed} frames had no time stamp, or not a later one than the "
                "frame before; theirs is counted from the frame rate"
            )
        for text, count in pipeline.warnings.items():
            self.warnings.append(f"{name}: {text} ({count} times)")
        missing = (self.expected_frames or 0) - self.received
        if pipeline.fault is not None or missing > self._announced_slack:
            self.warnings.append(
                f"{name}: it ends after {self.received} frames, its container announces "
                f"{self.expected_frames or 'an unknown number'}; the file is damaged or cut short"
                + (f" ({pipeline.fault})" if pipeline.fault else "")
            )
