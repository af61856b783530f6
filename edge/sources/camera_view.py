"""One source's view of a camera, which several sources may share: its region and mask, its own
frames and counts."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from edge.errors import SourceError
from edge.sources.reconnect import ReconnectingSource
from edge.video.frames import Frame
from edge.video.packets import PacketRing
from edge.video.view import View, ViewCutter

logger = logging.getLogger(__name__)


class CameraView:
    """A one-frame buffer behind a camera. Counts are those of edge.sources.source.Source, from when
    the view joined the camera; so are the frames' indices and times.

    packets: the last compressed pictures of its camera; None if they are not kept. newest: the
    frame that waits to be fetched. fault: why the camera's pictures cannot be cut to this view.
    began: whether it has had a frame. replaced: frames that a newer one replaced before they were
    fetched; they count as dropped too.
    """

    live = True
    expected_frames = None

    def __init__(
        self, name: str, view: View, camera: ReconnectingSource, packets: PacketRing | None = None
    ) -> None:
        self.name, self.packets = name, packets
        self.newest: Frame | None = None
        self.last_served = 0  # rank of its last frame among all that were served
        self.replaced = 0
        self.began = False
        self.fault: SourceError | None = None
        self._camera, self._cut = camera, ViewCutter(view, name)
        self._joined_s = time.monotonic()
        self._before = camera.received, camera.dropped, camera.damaged
        # index and time of the camera where those of the view are 0; None: of its first frame
        self._zero = (0, 0.0) if camera.connections == 0 else None
        self._warnings: list[str] = []

    @property
    def frame_rate(self) -> float | None:
        return self._camera.frame_rate

    @property
    def received(self) -> int:
        return self._camera.received - self._before[0]

    @property
    def dropped(self) -> int:
        return self.replaced + self._camera.dropped - self._before[1]

    @property
    def damaged(self) -> int:
        return self._camera.damaged - self._before[2]

    @property
    def warnings(self) -> list[str]:
        return [*self._camera.warnings, *self._warnings]

    def see(self, frame: Frame) -> Frame | None:
        """The view of a camera's frame; None if the camera gave it before the view had joined, or
        where the view has a fault."""
        if self.fault is not None or frame.arrived_s < self._joined_s:
            return None
        try:
            seen = self._cut(frame)
        except SourceError as fault:
            self.fault = fault
            return None
        self._zero = index, time_s = self._zero or (frame.index, frame.time_s)
        return replace(seen, index=seen.index - index, time_s=seen.time_s - time_s)

    def put(self, frame: Frame) -> None:
        """Let a frame of the view wait in place of the one before."""
        if self.newest is not None:
            self.replaced += 1
            # a gap before a replaced frame is a gap before the next one too
            gap = frame.discontinuity or self.newest.discontinuity
            frame = replace(frame, discontinuity=gap)
        self.newest, self.began = frame, True

    def end(self) -> None:
        """Complete the warnings."""
        if self.damaged:
            text = f"{self.name}: damaged pictures, which were left out: {self.damaged}"
            self._warnings.append(text)
            logger.warning("%s", text)
