"""Writes annotated video as H.264 in .mp4 or .mkv.

It is written as `NAME.part` and renamed to `NAME` in `finish()`, so that a file under its final
name is always complete. After an error or a kill `NAME.part` remains and can be played; a power cut
loses its last half second.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from edge.errors import OutputError
from edge.outputs.overlay import Picture
from edge.outputs.part_file import PartFile, check_place, check_room
from edge.outputs.picture_encoder import STALL_S, PictureEncoder

_END_S = 30.0  # for writing the last frames and the index

_MUXERS = {
    # A fragment each second: after a power cut all but the last second is playable.
    ".mp4": "mp4mux fragment-duration=1000",
    ".mkv": "matroskamux",
}


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
        muxer = _MUXERS[path.suffix.lower()]
        self._encoder = PictureEncoder(
            size_hw, frame_rate, f"{muxer} ! filesink name=file sync=false buffer-mode=unbuffered"
        )
        self.encoder = self._encoder.name
        self._part = PartFile(path)
        self._finished = False

    def __enter__(self) -> VideoWriter:
        self._encoder.open()
        self._encoder.element("file").set_property("location", str(self._part.part))
        self._encoder.start()
        self._part.keep()
        return self

    def write(self, picture: Picture, time_s: float) -> None:
        """Add a picture, (H, W, 3) BGR uint8; waits while the encoder's queue is full.

        time_s: later than that of the last picture. Raises OutputError if the encoder or the disk
        fails.
        """
        self._part.check()
        with self._faults_named():
            self._encoder.write(picture, time_s)

    def finish(self) -> None:
        """Call at the regular end: write the remaining frames, then rename the file."""
        if self._encoder.last_s is None:
            return
        self._finished = True
        self._part.check()
        with self._faults_named():
            self._encoder.end(_END_S)
        self._encoder.stop()
        self._part.publish()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            unfinished = self._encoder.last_s is not None and not self._finished
            if unfinished and self._encoder.fault is None:
                self._encoder.await_end(STALL_S)
        finally:
            self._encoder.stop()
            self._part.discard_if_empty()

    @contextmanager
    def _faults_named(self) -> Iterator[None]:
        """Faults of the encoder and the file name the file, and where the recording is."""
        try:
            yield
        except OutputError as fault:
            self._part.check()
            raise OutputError(
                f"{self._part.path}: {fault}; the recording so far is in {self._part.part}"
            ) from None
