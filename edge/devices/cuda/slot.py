"""The memory and events of one frame in flight on the GPU."""

from __future__ import annotations

from edge.bundle.manifest import Manifest
from edge.devices.cuda.driver import Driver, Pinned

_EVENTS = ("begin", "resized", "flow", "side", "done")


class Slot:
    """Pinned memory and events of one frame in flight, reused for later frames.

    frame: the packed frame, or None before the first one; device_frame: address of its copy in GPU
    memory, 0 if the GPU reads `frame` itself. logits: (C,) float32 by stream; flows: (2 H W,) uint8
    by the spec of their method. events: of the frame, see edge/devices/cuda/device.py; began,
    ended: before and after the network of each stream. free: no work is in progress. serial: number
    of the frame that uses the slot.
    """

    def __init__(self, driver: Driver, manifest: Manifest) -> None:
        height, width = manifest.geometry.size_hw
        self.driver = driver
        self.frame: Pinned | None = None
        self.device_frame = 0
        classes = len(manifest.classes)
        self.logits = {name: driver.pinned(4 * classes) for name in manifest.streams}
        self.flows = {spec: driver.pinned(2 * height * width) for spec in manifest.motions}
        self.events = {name: driver.event() for name in _EVENTS}
        self.began = {name: driver.event() for name in manifest.streams}
        self.ended = {name: driver.event() for name in manifest.streams}
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
