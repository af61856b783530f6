"""Opens a source of frames by its address.

    with open_source("clip.avi") as source:
        for frame in source: ...

A file gives all of its frames, however slow the caller. A live source never lags: the newest frame
replaces older ones, which count as dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

from edge.sources.gst_source import open_camera
from edge.sources.uri import parse_address
from edge.video.clip import open_clip
from edge.video.frames import Frame


class Source(Protocol):
    """An iterator of frames, started by `with`.

    live: frames are dropped if the caller is slow. size_hw: px, the same for all frames.
    frame_rate: nominal frames a second, None if unknown. expected_frames: None if unknown.
    received: frames from the decoder; dropped: those replaced by a newer one before the caller
    fetched them; damaged: frames that the decoder could not restore. warnings: one line each,
    complete when the iteration has ended.
    """

    live: bool
    size_hw: tuple[int, int]
    frame_rate: float | None
    expected_frames: int | None
    received: int
    warnings: list[str]

    @property
    def dropped(self) -> int: ...

    @property
    def damaged(self) -> int: ...

    def __enter__(self) -> Source: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def __iter__(self) -> Iterator[Frame]: ...

    def __next__(self) -> Frame: ...

    def stop(self) -> None:
        """End the iteration soon, also while waiting for a frame. Thread-safe."""


def open_source(uri: str, *, timeout_s: float = 10.0, vectors: bool = False) -> Source:
    """A source to use in `with`; see `edge.sources.uri` for the syntax of `uri`.

    timeout_s: a source other than a file raises SourceError if no frame comes for this long, at the
    start or later. vectors: frames have the motion vectors of their codec. Raises SourceError, here
    or in `with`, if the address is malformed or names something that is not there, or if it has no
    vectors.
    """
    address = parse_address(uri)
    if address.kind == "file":
        return open_clip(Path(address.location), address.orientation, address.view, vectors=vectors)
    return open_camera(uri, timeout_s=timeout_s, vectors=vectors)
