"""A frame that is under way on the GPU."""

from __future__ import annotations

from edge.bundle.manifest import Manifest
from edge.devices.cuda.driver import Driver, Pinned

_MARKS = ("begin", "seen", "flow", "side", "done")


class Slot:
    """What a frame has for itself while it is under way: memory to come and go, and events.

    logits: (C,) float32 by stream, flows: (2 H W,) uint8 by method, both pinned. marks: besides
    those of the frame, `input` and `logits` of each stream: before and after its network.
    free: nothing is under way in it. serial: of the frame that it was last taken for.
    """

    def __init__(self, driver: Driver, manifest: Manifest) -> None:
        height, width = manifest.geometry.size_hw
        self.frame: Pinned | None = None
        self.device_frame = 0
        classes = len(manifest.classes)
        self.logits = {name: driver.pinned(4 * classes) for name in manifest.streams}
        self.flows = {spec: driver.pinned(2 * height * width) for spec in manifest.motions}
        self.marks = {name: driver.event() for name in _MARKS}
        self.began = {name: driver.event() for name in manifest.streams}
        self.ended = {name: driver.event() for name in manifest.streams}
        self.free = True
        self.serial = -1

    def take(self, serial: int) -> None:
        """For another frame, once the one before is done."""
        self.wait()
        self.free, self.serial = False, serial

    def wait(self) -> None:
        if not self.free:
            self.marks["done"].synchronize()
            self.free = True
