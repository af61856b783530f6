"""What all sources share on the GPU: the networks, both CUDA streams, and the plans of views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from edge.bundle.manifest import Manifest
from edge.devices.cuda.driver import Driver
from edge.devices.cuda.kernels.device_plan import ViewPlan, write_colour
from edge.devices.cuda.kernels.launches import Launch
from edge.devices.cuda.network import Network
from edge.devices.cuda.slot import Slot
from edge.video.frames import Frame, Matrix


class Shared:
    """main, _side: the CUDA streams, see device.py. flow_wanted: flows are brought to the host."""

    def __init__(
        self, manifest: Manifest, driver: Driver, networks: Mapping[str, Network], flow_wanted: bool
    ) -> None:
        self.driver, self.networks, self.manifest = driver, networks, manifest
        self.flow_wanted = flow_wanted
        self._colours = {  # of the streams that see RGB, by matrix
            name: {
                matrix: driver.place(write_colour(matrix, stream.normalisation))
                for matrix in get_args(Matrix)
            }
            for name, stream in manifest.streams.items()
            if stream.input.motion is None
        }
        self._views: dict[tuple[tuple[int, int], bool], ViewPlan] = {}
        self.main, self._side = driver.stream(), driver.stream()

    def view(self, frame: Frame) -> ViewPlan:
        key = (frame.size_hw, frame.full_range)
        if key not in self._views:
            self._views[key] = ViewPlan(*key, self.manifest.geometry, self.driver.place)
        return self._views[key]

    def start_still(
        self, view: ViewPlan, matrix: Matrix, slot: Slot, source: int, luma: int
    ) -> None:
        """The networks that see no motion. source: address of the packed frame; luma: of its
        picture, (H, W) float32."""
        side = self._side
        side.wait_for_event(slot.marks["seen"])
        for name, colours in self._colours.items():
            rgb = view.rgb(source, luma, colours[matrix], self.networks[name].input)
            self.start(name, rgb, slot, side)
        slot.marks["side"].record(side)

    def start(self, name: str, make_input: Launch, slot: Slot, stream: Any) -> None:
        """One network on a CUDA stream, and its logits to the host."""
        network = self.networks[name]
        self.driver.launch([make_input], stream)
        slot.began[name].record(stream)
        network.enqueue(stream)
        slot.ended[name].record(stream)
        self.driver.download(slot.logits[name].array, network.logits, stream)
