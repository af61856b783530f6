"""What all sources share on the GPU: networks, CUDA streams and the plans of views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from edge.bundle.manifest import Manifest
from edge.devices.cuda.driver import Driver, Stream
from edge.devices.cuda.graph import Record
from edge.devices.cuda.kernels.device_plan import ViewPlan, rgb_coefficients
from edge.devices.cuda.kernels.launches import Launch, pack
from edge.devices.cuda.network import Network
from edge.devices.cuda.slot import Slot
from edge.video.frames import Frame, Matrix


class SharedResources:
    """See edge/devices/cuda/device.py for the CUDA streams.

    networks: by stream. flow_wanted: whether flows are copied to the host. main: the CUDA stream of
    frames, flow and the networks with motion.
    """

    def __init__(
        self, manifest: Manifest, driver: Driver, networks: Mapping[str, Network], flow_wanted: bool
    ) -> None:
        self.driver, self.networks, self.manifest = driver, networks, manifest
        self.flow_wanted = flow_wanted
        # addresses of coefficients, by stream without motion and by matrix
        self._coefficients = {
            name: {
                matrix: driver.place(rgb_coefficients(matrix, stream.normalisation))
                for matrix in get_args(Matrix)
            }
            for name, stream in manifest.streams.items()
            if stream.input.motion is None
        }
        self._views: dict[tuple[tuple[int, int], bool, tuple[int, int]], ViewPlan] = {}
        self.main, self._side = driver.stream(), driver.stream()

    def view(self, frame: Frame) -> ViewPlan:
        """The plan for frames of this size, range and shape of pixel, made on first use."""
        key = (frame.size_hw, frame.full_range, frame.pixel_aspect)
        if key not in self._views:
            self._views[key] = ViewPlan(*key, self.manifest.geometry, self.driver.place)
        return self._views[key]

    def start_rgb_networks(
        self, view: ViewPlan, matrix: Matrix, slot: Slot, luma: int, record: Record
    ) -> None:
        """Start the networks without motion on the side stream.

        luma: address of the frame's resized luma, (H, W) float32.
        """
        side = self._side
        side.wait_for_event(slot.events["resized"])
        for name, coefficients in self._coefficients.items():
            rgb = view.rgb(slot.source, luma, coefficients[matrix], self.networks[name].input)
            self.start_network(name, rgb, slot, side, record)
        slot.events["side"].record(side)

    def start_network(
        self, name: str, fill_input: Launch, slot: Slot, stream: Stream, record: Record
    ) -> None:
        """Enqueue one network on a CUDA stream: fill its input, run it, and copy its logits to the
        slot."""
        network = self.networks[name]
        self.driver.launch(pack([fill_input]), stream)
        record(slot.began[name], stream)
        network.enqueue(stream)
        record(slot.ended[name], stream)
        self.driver.download(slot.logits[name].array, network.logits, stream)
