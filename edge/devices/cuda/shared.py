"""What all sources share on the GPU: networks, coefficients and the plans of views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from edge.bundle.manifest import Manifest
from edge.devices.cuda.driver import Driver
from edge.devices.cuda.kernels.device_plan import ViewPlan, rgb_coefficients
from edge.devices.cuda.network import Network
from edge.video.frames import Frame, Matrix


class SharedResources:
    """networks: by stream. flow_wanted: whether flows are copied to the host. coefficients: their
    addresses, by stream without motion and by matrix."""

    def __init__(
        self, manifest: Manifest, driver: Driver, networks: Mapping[str, Network], flow_wanted: bool
    ) -> None:
        self.driver, self.networks, self.manifest = driver, networks, manifest
        self.flow_wanted = flow_wanted
        self.coefficients: Mapping[str, Mapping[Matrix, int]] = {
            name: {
                matrix: driver.place(rgb_coefficients(matrix, stream.normalisation))
                for matrix in get_args(Matrix)
            }
            for name, stream in manifest.streams.items()
            if stream.input.motion is None
        }
        self._views: dict[tuple[tuple[int, int], bool, tuple[int, int]], ViewPlan] = {}

    def view(self, frame: Frame) -> ViewPlan:
        """The plan for frames of this size, range and shape of pixel, made on first use."""
        key = (frame.size_hw, frame.full_range, frame.pixel_aspect)
        if key not in self._views:
            self._views[key] = ViewPlan(*key, self.manifest.geometry, self.driver.place)
        return self._views[key]
