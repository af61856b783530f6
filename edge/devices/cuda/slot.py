"""The memory and events of one frame in flight on the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from edge.bundle.manifest import Manifest
from edge.devices.cuda.driver import Driver, Pinned, Stream
from edge.devices.cuda.kernels.device_plan import FLOW_PLACE, ViewPlan
from edge.video.frames import Frame

_EVENTS = ("begin", "luma", "resized", "flow", "side", "done")


class Slot:
    """Pinned memory and events of one frame in flight, reused for later frames.

    The places of its flows and its packed frame go to the GPU in one copy. places, source: their
    addresses there. logits: (C,) float32 by stream; flows: (2 H W,) uint8 by the spec of their
    method. events: of the frame, see edge/devices/cuda/device.py; began, ended: before and after
    the network of each stream. work: what is enqueued for a frame, by whether it has a flow and
    whether networks run. free: no work is in progress. serial: number of the frame in it.
    """

    def __init__(self, driver: Driver, manifest: Manifest) -> None:
        height, width = manifest.geometry.size_hw
        self.driver = driver
        self._pinned: Pinned | None = None
        self._flows = len(manifest.motions)
        self.places: list[int] = []
        self.source = 0
        classes = len(manifest.classes)
        self.logits = {name: driver.pinned(4 * classes) for name in manifest.streams}
        self.flows = {spec: driver.pinned(2 * height * width) for spec in manifest.motions}
        self.events = {name: driver.event() for name in _EVENTS}
        self.began = {name: driver.event() for name in manifest.streams}
        self.ended = {name: driver.event() for name in manifest.streams}
        self.work = {kind: driver.repeated_work() for kind in product((False, True), repeat=2)}
        self.free = True
        self.serial = -1

    def take(self, serial: int) -> None:
        """Use the slot for frame number `serial`, after waiting for the frame in it."""
        self.wait()
        self.free, self.serial = False, serial

    def wait(self) -> None:
        """Wait until the work on the slot's frame is done."""
        if not self.free:
            self.events["done"].synchronize()
            self.free = True

    def upload(
        self, view: ViewPlan, frame: Frame, places: Sequence[tuple[float, int]], stream: Stream
    ) -> None:
        """Start the copy of a frame to the GPU. A Jetson's GPU could read the pinned memory itself,
        but not through its caches. places: of its flows; empty if it has none."""
        head = FLOW_PLACE.size * self._flows
        size = head + view.frame_bytes
        if self._pinned is None or len(self._pinned.array) < size:
            self._pinned = self.driver.pinned(size)
            start = self.driver.allocate(size)
            self.places = [start + FLOW_PLACE.size * k for k in range(self._flows)]
            self.source = start + head
        packed = self._pinned.array[:size]
        for k, place in enumerate(places):
            FLOW_PLACE.pack_into(packed.data, FLOW_PLACE.size * k, *place)
        view.pack(frame, packed[head:])
        self.events["begin"].record(stream)
        self.driver.upload(self.source - head, packed, stream)
