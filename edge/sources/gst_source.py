"""Reads a camera, a network stream or a test pattern as I420 frames with their times.

GStreamer decodes and converts the pixel format; cropping and resizing happen in `edge.video.frames`
alone. Files are read elsewhere: see edge.video.video_file.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

import numpy as np

from edge.errors import SourceError
from edge.sources.coded_frames import CodedFrames
from edge.sources.cut_pictures import drop_cut_pictures
from edge.sources.decoders import DecoderSetup
from edge.sources.http_refusal import http_refusal
from edge.sources.packet_tap import PacketTap
from edge.sources.pipeline import (
    CODED_KINDS,
    NVIDIA_TRIAL,
    packet_description,
    pipeline_description,
)
from edge.sources.uri import Address, parse_address
from edge.video.clock import StreamClock
from edge.video.frames import Frame, Plane, default_matrix
from edge.video.gstreamer import Pipeline, element_fault, load_gstreamer, trial_fault
from edge.video.i420_buffer import I420Layout, i420_planes, layout_of_buffer, layout_of_caps
from edge.video.orientation import turn
from edge.video.packets import PacketSink
from edge.video.view import ViewCutter

logger = logging.getLogger(__name__)

_POLL_S = 0.2  # appsink does not wake up on an error, so the bus is read at least this often
_MAPPED_MAX = 4  # buffers that the caller may hold; a decoder's pool may have few more
_REMEDY = {
    "v4l2": "check that no other program uses the camera and that you are in the group `video`",
    "rtsp": "check the address, the network, the user and the password",
    "http": "check the address, the network, the user and the password",
    "csi": "check the ribbon cable and that nvargus-daemon runs",
    "test": "see `gst-inspect-1.0 videotestsrc`",
    "pipeline": "check that it plays with `gst-launch-1.0 ... ! videoconvert ! autovideosink`",
}
_REMEDY_CODED = (
    "a network that sees motion vectors needs its video as H.264, MPEG-4 or MPEG-2, not decoded; "
    "give such a source, or take a network for TV-L1 flow"
)
_REMEDY_PARTS = (
    "each picture must follow its boundary and `Content-Type: image/jpeg`; check that the camera "
    "works in a browser"
)
_REMEDY_TLS = (
    "check the address and the network, and that this machine trusts the camera's certificate (put "
    "it into /usr/local/share/ca-certificates and run `sudo update-ca-certificates`)"
)


def open_camera(
    uri: str,
    *,
    timeout_s: float = 10.0,
    packets: PacketSink | None = None,
    vectors: bool = False,
) -> GStreamerSource:
    """A source to use in `with`, of any kind but a file; see edge.sources.source.open_source.
    packets: gets its compressed pictures, if it sends H.264 or H.265."""
    address = parse_address(uri)
    if vectors and address.kind not in CODED_KINDS:
        raise SourceError(
            f"{address.name}: gives no motion vectors, which this network needs; give a "
            "file, rtsp://, a USB camera or a pipeline of H.264, or take a network for TV-L1 flow"
        )
    return GStreamerSource(address, timeout_s, packets, vectors)


class _Arrival(NamedTuple):
    """A decoded frame. number: index in the source; sample: GStreamer's, or a Frame where packets
    are decoded here; arrived_s: monotonic time."""

    number: int
    sample: Any
    arrived_s: float


class GStreamerSource:
    """See edge.sources.source.Source.

    timeout_s: how long it may give no frame. dropped: all frames that were neither returned nor are
    waiting, which is one at most.
    damaged: frames of a live source that the decoder could not restore, because it started between
    two key frames or packets were lost. They would look like motion, and do not count as received.
    On a Jetson see edge.sources.decoders.
    told: warnings that are not logged again, of the same camera before. warnings: one line each;
    complete when the iteration has ended. A network camera whose server
    goes away may end the iteration instead of raising an error; the reason is in the warnings.

    A frame's planes are read-only views of the decoder's buffer. They stay valid while any of them
    is referenced, also after the next frame and after the `with`; while a caller holds more than
    four frames, further frames are copies.
    """

    def __init__(
        self,
        address: Address,
        timeout_s: float,
        packets: PacketSink | None = None,
        vectors: bool = False,
    ) -> None:
        """vectors: frames have motion vectors; for kinds in CODED_KINDS alone."""
        self.live = address.live
        self.size_hw = (0, 0)
        self.frame_rate: float | None = None
        self.expected_frames = address.frames
        self.received = 0
        self.dropped = 0
        self.warnings: list[str] = []
        self.told: set[str] = set()
        self._address, self._packets = address, packets
        self._decoders = DecoderSetup(live=address.kind == "rtsp")
        self._corrupted = 0
        self._coded = CodedFrames(address) if vectors else None
        self.timeout_s = timeout_s
        self._mapped: list[weakref.finalize] = []
        self._arrival = threading.Condition()
        self._newest: _Arrival | None = None  # live only
        self._first: _Arrival | None = None  # fetched by __enter__
        self._caps: tuple[Any, Any] | None = None  # of the frames, and before the converter
        self._layout: I420Layout | None = None
        self._clock = StreamClock(None)
        self._cut = ViewCutter(address.view, address.name)
        self._packet_fault: SourceError | None = None
        self._over = False
        self._asked_to_stop = False
        self._arriving = 0  # GStreamer's id of our signal handler

    @property
    def damaged(self) -> int:
        coded = 0 if self._coded is None else self._coded.damaged
        return self._corrupted + self._decoders.damaged + coded

    def __enter__(self) -> GStreamerSource:
        self._gst = load_gstreamer(SourceError)
        if self._address.kind == "csi" and (fault := element_fault("nvarguscamerasrc")):
            raise SourceError(
                f"{self._address.name}: {fault}; CSI cameras need a Jetson with the package "
                "nvidia-l4t-gstreamer, see `twostream doctor`"
            )
        nvidia = trial_fault(NVIDIA_TRIAL) is None
        description = (
            pipeline_description(self._address, nvidia=nvidia)
            if self._coded is None
            else packet_description(self._address)
        )
        self._pipeline = Pipeline(description, SourceError)
        try:
            self._configure()
            self._pipeline.play()
            self._first = self._next_sample()
            if self._first is None:
                raise SourceError(f"{self._address.name}: ends before its first frame")
            self._take_format(self._first)
            if self.live:
                self._put_back(self._first)
        except BaseException:
            self._release()
            raise
        return self

    def _release(self) -> None:
        self._pipeline.stop()
        if self._arriving:
            self._sink.disconnect(self._arriving)
            self._arriving = 0
        self._first = self._newest = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over = True
        self._release()

    def stop(self) -> None:
        """End the iteration soon, also while waiting for a frame. Thread-safe."""
        self._asked_to_stop = True

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
        self._take_format(arrival)
        try:
            return self._frame(arrival)
        except SourceError as fault:
            raise SourceError(f"{self._address.name}: {fault}") from None

    def _configure(self) -> None:
        """Prepare for decoders, and set paths and addresses as properties, since the parser treats
        some characters in them as special."""
        self._decoders.attach(self._pipeline)
        if self._packets is not None:
            PacketTap(self._packets).attach(self._pipeline)
        element = self._pipeline.element("origin")  # None for a user's own pipeline
        if self._address.kind == "rtsp":
            element.set_property("location", self._address.location)
        elif self._address.kind == "http":
            _set_http(element, self._address.location)
            jpeg = self._pipeline.element("jpeg").get_static_pad("sink")
            drop_cut_pictures(jpeg, self._on_damage)
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
        arrived = self._on_new_sample
        if self._coded is not None:
            arrived = self._on_packet
            self._decoders.guard(self._sink.get_static_pad("sink"))
        else:
            self._decoded = self._pipeline.element("to_i420").get_static_pad("sink")
        if self.live:
            self._arriving = self._sink.connect("new-sample", arrived)

    def _on_damage(self) -> None:
        self._corrupted += 1  # also shows that the camera is alive

    def _put_back(self, arrival: _Arrival) -> None:
        """Put a live source's first frame into the buffer, where a newer one may replace it."""
        with self._arrival:
            if self._newest is None:
                self._newest = arrival
            else:
                self.dropped += 1
        self._first = None

    def _on_new_sample(self, sink: Any) -> Any:
        """Replace a frame that was not fetched by the newest; runs in GStreamer's thread.

        appsink could drop frames itself, but then counts and indices would not be exact.
        """
        if sample := sink.try_pull_sample(0):
            if sample.get_buffer().has_flags(self._gst.Gst.BufferFlags.CORRUPTED):
                self._on_damage()
                return self._gst.Gst.FlowReturn.OK
            self._put(sample)
        return self._gst.Gst.FlowReturn.OK

    def _on_packet(self, sink: Any) -> Any:
        """The same for packets. All are decoded, since each picture follows from those before."""
        if sample := sink.try_pull_sample(0):
            assert self._coded is not None
            try:
                for frame in self._coded.push(sample):
                    self._put(frame)
            except SourceError as error:
                self._packet_fault = error
                return self._gst.Gst.FlowReturn.ERROR
        return self._gst.Gst.FlowReturn.OK

    def _put(self, sample: Any) -> None:
        """Replace a frame that was not fetched by the newest."""
        with self._arrival:
            self.dropped += self._newest is not None
            self._newest = _Arrival(self.received, sample, time.monotonic())
            self.received += 1
            self._arrival.notify()

    def _pull(self, timeout_s: float) -> _Arrival | None:
        """The next frame within `timeout_s`, or None."""
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
        return _Arrival(self.received - 1, sample, time.monotonic())

    def _next_sample(self) -> _Arrival | None:
        """The next frame, or None at the end. Raises SourceError after a fault or `timeout_s`."""
        pipeline = self._pipeline
        deadline_s, damaged = time.monotonic() + self.timeout_s, self.damaged
        while True:
            pipeline.read_bus()  # before the pull, so that nothing sent before the end is lost
            over = pipeline.ended or pipeline.fault is not None
            if arrival := self._pull(0.0 if over else _POLL_S):
                return arrival
            if self._packet_fault is not None:
                raise self._packet_fault
            if self.received == 0 and pipeline.answer and http_refusal(pipeline.answer):
                pipeline.fault = pipeline.fault or "not MJPEG"
            if pipeline.fault is not None and (self.live or self.received == 0):
                raise SourceError(self._explain(pipeline.fault))
            if over or self._asked_to_stop:
                return None
            if self.damaged != damaged:
                deadline_s, damaged = time.monotonic() + self.timeout_s, self.damaged
            if time.monotonic() > deadline_s:
                raise SourceError(
                    f"{self._address.name}: no frame for {self.timeout_s:g} s; "
                    f"{_REMEDY[self._address.kind]}"
                )

    def _explain(self, fault: str) -> str:
        name, missing = self._address.name, self._pipeline.missing
        if missing:
            return (
                f"{name}: no decoder is installed for {', '.join(missing)}; run `sudo apt install "
                "gstreamer1.0-libav gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly`"
            )
        answer = self._pipeline.answer
        if answer is not None:
            return f"{name}: {http_refusal(answer) or f'{fault}; {_REMEDY_PARTS}'}"
        if self._address.location.lower().startswith("https:"):
            # souphttpsrc does not say why it gave up
            return f"{name}: {fault}; {_REMEDY_TLS}"
        if self._coded is not None and self._address.kind != "rtsp":
            return f"{name}: {fault}; {_REMEDY_CODED}"
        return f"{name}: {fault}; {_REMEDY[self._address.kind]}"

    def _take_format(self, arrival: _Arrival) -> None:
        if self._coded is None:
            self._take_caps(arrival.sample.get_caps(), arrival.number)
        else:
            self.size_hw = self._cut.size_hw(self._coded.size_hw)
            self.frame_rate = self._coded.frame_rate

    def _take_caps(self, caps: Any, index: int) -> None:
        decoded = self._decoded.get_current_caps() or caps
        if self._caps is not None and all(map(_same_caps, self._caps, (caps, decoded))):
            return
        layout = layout_of_caps(caps, decoded)
        if self._layout is None:
            quarter_turn = self._address.orientation.quarter_turns % 2
            upright_hw = layout.size_hw[::-1] if quarter_turn else layout.size_hw
            self.size_hw = self._cut.size_hw(upright_hw)
            self.frame_rate = layout.frame_rate
            self._clock = StreamClock(layout.frame_rate)
            if layout.matrix is None:
                self._warn(
                    f"{self._address.name}: its colour matrix is neither BT.601 nor BT.709; "
                    f"{default_matrix(layout.size_hw[0])} is used"
                )
        elif layout.size_hw != self._layout.size_hw:
            (old_h, old_w), (new_h, new_w) = self._layout.size_hw, layout.size_hw
            raise SourceError(
                f"{self._address.name}: the size changes from {old_w}x{old_h} to {new_w}x{new_h}"
                f" at frame {index}; open it again"
            )
        self._caps, self._layout = (caps, decoded), layout

    def _frame(self, arrival: _Arrival) -> Frame:
        layout, index, sample = self._layout, arrival.number, arrival.sample
        if isinstance(sample, Frame):
            return self._cut(replace(sample, index=index, arrived_s=arrival.arrived_s))
        assert layout is not None
        buffer = sample.get_buffer()
        planes = i420_planes(self._map(buffer), layout_of_buffer(buffer, layout))
        running_ns = sample.get_segment().to_running_time(self._gst.Gst.Format.TIME, buffer.pts)
        known = running_ns != self._gst.Gst.CLOCK_TIME_NONE
        frame = Frame(
            *planes,
            time_s=self._clock.time_s(index, running_ns / 1e9 if known else None),
            index=index,
            matrix=layout.matrix or default_matrix(layout.size_hw[0]),
            full_range=layout.full_range,
            pixel_aspect=layout.pixel_aspect,
            arrived_s=arrival.arrived_s,
        )
        return self._cut(turn(frame, self._address.orientation))

    def _map(self, buffer: Any) -> Plane:
        """The bytes of a buffer; it is unmapped when the last view of them is gone."""
        known, info = buffer.map(self._gst.Gst.MapFlags.READ)
        if not known:
            raise SourceError("a frame's memory cannot be mapped")
        flat: Plane = np.frombuffer(info.data, np.uint8)
        self._mapped = [mapping for mapping in self._mapped if mapping.alive]
        if len(self._mapped) >= _MAPPED_MAX:
            flat = flat.copy()
            flat.flags.writeable = False
            buffer.unmap(info)
        else:
            mapping = weakref.finalize(flat, buffer.unmap, info)
            mapping.atexit = False
            self._mapped.append(mapping)
        return flat

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        if text not in self.told:
            logger.warning("%s", text)

    def _note_end(self) -> None:
        """Complete the warnings."""
        name, pipeline = self._address.name, self._pipeline
        if self._clock.replaced:
            self._warn(
                f"{name}: {self._clock.replaced} frames had no time stamp, or one that was not "
                "later than the last; their times were computed from the frame rate"
            )
        for text, count in pipeline.warnings.items():
            self._warn(f"{name}: {text} ({count} times)")


def _set_http(element: Any, url: str) -> None:
    """Give souphttpsrc an address; it takes user and password apart from it alone."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    element.set_property("location", urlunsplit(parts._replace(netloc=place)))
    if parts.username is not None:
        element.set_property("user-id", unquote(parts.username))
        element.set_property("user-pw", unquote(parts.password or ""))


def _same_caps(one: Any, other: Any) -> bool:
    return bool(one.is_equal(other))
