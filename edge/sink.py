"""Results out: JSON lines and annotated video.

Both write `NAME.part` and rename it to `NAME` in `finish()`, so that a file under its own name is
always whole. What an error or a kill leaves is in `NAME.part`, and can be read and played; a power
cut takes the last half second of it as well.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import cv2
import numpy as np

from edge.errors import SinkError
from edge.files import open_growing, why
from edge.gstreamer import Pipeline, load_gstreamer, trial_fault
from edge.overlay import Picture

_FREE_MIN_BYTES = 16 << 20
_SYNC_S = 0.5
_QUEUE_FRAMES = 4
_STALL_S = 10.0  # an encoder that takes nothing for so long will not recover
_END_S = 30.0  # for the last frames and the index to reach the disk

_MUXERS = {
    # A fragment a second: what a power cut leaves is playable but for the last second.
    ".mp4": "mp4mux fragment-duration=1000",
    ".mkv": "matroskamux",
}
# In order of preference. Their presence says little (a distribution may ship an element for
# hardware that is not there), so the first that really encodes is taken. The first has not been run
# by the authors: it was written from NVIDIA's documentation.
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


def _check_place(path: Path) -> None:
    """Raises SinkError where no file of that name can be."""
    if not path.parent.is_dir():
        raise SinkError(f"{path}: the folder {path.parent} does not exist; create it first")
    if path.is_dir():
        raise SinkError(f"{path} is a folder; give the name of a file to write")


def _check_room(path: Path) -> None:
    """Raises SinkError where the disk is full."""
    free_bytes = shutil.disk_usage(path.parent).free
    if free_bytes < _FREE_MIN_BYTES:
        raise SinkError(f"{path}: only {free_bytes >> 20} MiB are free there; make room first")


class _PartFile:
    """`NAME.part`, which becomes `NAME` at a good end."""

    def __init__(self, path: Path) -> None:
        """Create it. Raises SinkError where that is impossible, before any work is done."""
        self.path = path
        self.part = path.with_name(path.name + ".part")
        _check_place(path)
        try:
            os.close(open_growing(self.part))
        except OSError as fault:
            raise SinkError(f"{self.part}: cannot be written ({why(fault)})") from None
        try:
            _check_room(path)
        except SinkError:
            self.part.unlink()
            raise
        self._over = threading.Event()
        self._keeper: threading.Thread | None = None

    def keep(self) -> None:
        """Bring what is written to the disk twice a second from now on: so little does a power cut
        take. Beside whoever writes, since a slow card may take its time."""
        self._keeper = threading.Thread(target=self._bring_to_disk, daemon=True)
        self._keeper.start()

    def _bring_to_disk(self) -> None:
        while not self._over.wait(_SYNC_S):
            # no file handle is free: it is tried again; a full or broken disk: who writes is told
            with contextlib.suppress(OSError), self.part.open("rb") as file:
                os.fdatasync(file.fileno())

    def leave(self) -> None:
        """No more is written."""
        self._over.set()
        if self._keeper is not None:
            self._keeper.join()
            self._keeper = None

    def publish(self) -> None:
        """Rename, once the content is safely on the disk."""
        self.leave()
        try:
            with self.part.open("rb") as file:
                os.fsync(file.fileno())
            self.part.replace(self.path)
        except OSError as fault:
            raise SinkError(f"{self.path}: {fault.strerror}; see {self.part}") from None

    def discard_if_empty(self) -> None:
        self.leave()
        if self.part.is_file() and self.part.stat().st_size == 0:
            self.part.unlink()


class JsonLines:
    """One compact JSON object a line, to a file or, for `-`, to the standard output.

    with JsonLines("labels.jsonl") as out:
        out.write({"time_s": 1.2, "label": "Archery"})
        out.finish()

    Every line is flushed. Without `finish()` the lines stay in `NAME.part`.
    """

    def __init__(self, path: str | Path) -> None:
        self._part = None if str(path) == "-" else _PartFile(Path(path))
        self._file: TextIO | None = None

    def __enter__(self) -> JsonLines:
        if self._part:
            self._file = os.fdopen(open_growing(self._part.part), "w", encoding="utf-8")
            self._part.keep()
        else:
            self._file = sys.stdout
        return self

    def write(self, record: dict[str, Any]) -> bool:
        """Write a line. False: whoever read the standard output has gone (`| head`); stop.

        Raises SinkError where the file cannot be written, ValueError at a NaN or infinity, which
        JSON does not have.
        """
        if self._file is None:
            return False
        # a standard output of another encoding than UTF-8 gets JSON's own escapes
        escaped = "utf" not in (self._file.encoding or "utf-8").lower()
        line = json.dumps(record, separators=(",", ":"), ensure_ascii=escaped, allow_nan=False)
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except BrokenPipeError:
            if self._part:
                raise
            self._abandon_stdout()
            return False
        except OSError as fault:
            name = self._part.part if self._part else "standard output"
            raise SinkError(f"{name}: {fault.strerror}; the lines so far are kept") from None
        return True

    def finish(self) -> None:
        """Call at a good end: the file gets its name, also when it has no line."""
        if self._part and self._file:
            self._file.close()
            self._part.publish()
        self._file = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._part and self._file:
            try:
                self._file.close()
            except OSError:  # write() has raised it already: the line it failed on is still held
                if fault is None:
                    raise
            self._part.discard_if_empty()
        self._file = None

    def _abandon_stdout(self) -> None:
        """Let whatever is printed later, and the interpreter's last flush, go nowhere.

        Else it ends with a complaint and code 120 (Python's documentation, "Note on SIGPIPE").
        """
        self._file = None
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@functools.cache
def choose_encoder(size_hw: tuple[int, int]) -> str:
    """The first H.264 encoder that encodes pictures of this size here. Raises SinkError."""
    load_gstreamer(SinkError)
    height, width = size_hw
    caps = f"video/x-raw,format=I420,width={width},height={height},framerate=30/1"
    outcomes = []
    for name, encoder in ENCODERS.items():
        fault = trial_fault(f"{encoder} ! h264parse", caps)
        if fault is None:
            return name
        outcomes.append(f"{name}: {fault}")
    raise SinkError(
        f"no H.264 encoder works for {width}x{height} ({'; '.join(outcomes)}); "
        "run `sudo apt install gstreamer1.0-plugins-ugly gstreamer1.0-plugins-bad`"
    )


def _check_ending(path: Path) -> None:
    if path.suffix.lower() not in _MUXERS:
        raise SinkError(f"{path}: video is written as .mp4 or .mkv; give one of these endings")


def check_video(path: Path) -> None:
    """Raises SinkError where no video can be written there. Touches nothing: what an earlier run
    has left may lie there."""
    _check_ending(path)
    _check_place(path)
    if not os.access(path.parent, os.W_OK):
        raise SinkError(f"{path.parent}: Permission denied; choose a folder that you may write to")
    _check_room(path)


class VideoWriter:
    """H.264 in .mp4 or .mkv, from BGR pictures with their times.

    with VideoWriter("out.mp4", picture_size(source.size_hw), 25.0) as writer:
        writer.write(picture, frame.time_s)
        writer.finish()

    encoder: the one in use. Without `finish()` the video stays in `NAME.part`, which plays. Where
    no picture is written there is no file either.
    """

    def __init__(self, path: str | Path, size_hw: tuple[int, int], frame_rate: float) -> None:
        """size_hw: px, both even. frame_rate: nominal; the times of the pictures decide."""
        path = Path(path)
        _check_ending(path)
        if any(side < 2 or side % 2 for side in size_hw):
            raise ValueError(f"H.264 needs even sides: {size_hw}")
        self.encoder = choose_encoder(size_hw)
        self._size_hw = size_hw
        self._rate = Fraction(frame_rate).limit_denominator(1001)
        self._part = _PartFile(path)
        self._last_s: float | None = None
        self._finished = False

    def __enter__(self) -> VideoWriter:
        self._gst = load_gstreamer(SinkError)
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
            SinkError,
        )
        self._pictures = self._pipeline.element("pictures")
        self._pictures.set_property("caps", caps)
        self._pictures.set_property("max-bytes", _QUEUE_FRAMES * self._info.size)
        self._pipeline.element("file").set_property("location", str(self._part.part))
        self._pipeline.play()
        self._part.keep()
        return self

    def write(self, picture: Picture, time_s: float) -> None:
        """Add a picture, (H, W, 3) BGR uint8; waits while the encoder is behind.

        time_s: seconds, later than the last one. Raises SinkError where the encoder or the disk
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
        """Call at a good end: write what is left, then give the file its name."""
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
            left = self._last_s is not None and not self._finished
            if left and self._pipeline.fault is None:
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
        """appsrc can block by itself, but then for ever once the pipeline has failed."""
        deadline_s = time.monotonic() + _STALL_S
        self._pipeline.read_bus()
        self._raise_fault()
        while self._pictures.get_current_level_bytes() >= _QUEUE_FRAMES * self._info.size:
            self._pipeline.read_bus(0.005)
            self._raise_fault()
            if time.monotonic() > deadline_s:
                raise SinkError(
                    f"{self._part.path}: {self.encoder} has taken no picture for {_STALL_S:g} s"
                )

    def _raise_fault(self) -> None:
        if self._pipeline.fault is not None:
            raise SinkError(
                f"{self._part.path}: {self._pipeline.fault}; what was recorded is in "
                f"{self._part.part}"
            )

    def _end(self, bound_s: float) -> None:
        self._pictures.end_of_stream()
        self._pipeline.await_end(bound_s)
        self._raise_fault()
        if not self._pipeline.ended:
            raise SinkError(
                f"{self._part.path}: the end was not written within {bound_s:g} s; what was "
                f"recorded is in {self._part.part}"
            )
