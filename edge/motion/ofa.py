"""Flow of NVIDIA's optical flow hardware: OFA through VPI 3 on Jetson Orin, NvOF through OpenCV on
PCs. **It has never run on the hardware here**: tests have a stand-in for it, with its format.

The hardware gives a vector for each cell of a grid of 1, 2 or 4 px, in 32nds of a px (S10.5), of
which quarters are used. Each pixel of a cell gets the vector of the cell: between the centres of
cells nothing is interpolated, which cost a network that was trained on TV-L1 no less (see
docs/figures.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge.errors import DeviceError
from edge.motion.quantise import FlowBytes, quantise
from edge.spec import Spec
from edge.video.frames import Frame, Plane

UNITS_PER_PX = 32
LEVELS = 3  # of the pyramid: 224 px become 56, and the hardware needs 32
_QUALITIES = {"low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
_PRESETS = {"low": "FAST", "medium": "MEDIUM", "high": "SLOW"}  # NvOF's names

Grid = Literal[1, 2, 4]
Quality = Literal["low", "medium", "high"]

# (previous, current), luma (H, W) uint8 -> vectors from the first to the second, in 32nds of a px,
# (ceil(H / grid), ceil(W / grid), 2) int16
HardwareFlow = Callable[[Plane, Plane], NDArray[np.int16]]


class OFASpec(Spec):
    """grid_px: side of the cells that have one vector each. quality: of the search. interval_s:
    flow is in px per this interval; flow between frames with another interval is rescaled to it.
    bound_px: flow is clipped to +-bound_px and mapped to 0..255."""

    method: Literal["ofa"]
    grid_px: Grid
    quality: Quality
    interval_s: float = Field(ge=1e-3, le=1)
    bound_px: float = Field(ge=0.1, le=1024)

    def work(self, height: int, width: int) -> int:
        """The number of pixel iterations for one flow of this size."""
        return height * width


def ofa_spec(grid_px: Grid) -> OFASpec:
    """With interval and bound as of the presets of TV-L1, so that networks can start from each
    other."""
    return OFASpec(method="ofa", grid_px=grid_px, quality="high", interval_s=0.04, bound_px=20.0)


class OFAMotion:
    """See edge.motion.method.Motion."""

    def __init__(
        self, spec: OFASpec, size_hw: tuple[int, int], hardware: HardwareFlow | None = None
    ) -> None:
        """hardware: None opens what this machine has. Raises DeviceError if it has none."""
        self._spec, self._size_hw = spec, size_hw
        self._hardware = hardware or open_hardware(spec, size_hw)

    def warm_up(self) -> None:
        blank = np.zeros(self._size_hw, np.uint8)
        self._flow(blank, blank, self._spec.interval_s)

    def __call__(self, previous: Frame, current: Frame) -> FlowBytes:
        interval_s = current.time_s - previous.time_s
        if interval_s <= 0:
            raise ValueError(f"frame times must rise: {previous.time_s} then {current.time_s}")
        return self._flow(previous.y, current.y, interval_s)

    def _flow(self, previous: Plane, current: Plane, interval_s: float) -> FlowBytes:
        vectors = self._hardware(previous, current)
        return quantise(pixels(vectors, self._spec.grid_px, self._size_hw), self._spec, interval_s)


def pixels(
    vectors: NDArray[np.int16], grid_px: int, size_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """The flow of each pixel, (2, H, W) float32, px, of the vectors of cells, (h, w, 2) int16, in
    32nds of a px. Raises DeviceError if there are not enough cells."""
    height, width = size_hw
    needed = -(-height // grid_px), -(-width // grid_px), 2
    if vectors.shape != needed:
        raise DeviceError(f"motion ofa: the hardware gave {vectors.shape} vectors, not {needed}")
    flow = vectors.astype(np.float32).transpose(2, 0, 1) / np.float32(UNITS_PER_PX)
    flow = flow.repeat(grid_px, axis=1).repeat(grid_px, axis=2)
    return np.ascontiguousarray(flow[:, :height, :width])


def open_hardware(spec: OFASpec, size_hw: tuple[int, int]) -> HardwareFlow:
    """The optical flow hardware of this machine. Raises DeviceError if it has none, or its library
    is not installed."""
    try:
        import vpi
    except ImportError:
        return _open_nvof(spec, size_hw)
    return _open_vpi(vpi, spec)


def _open_vpi(vpi: Any, spec: OFASpec) -> HardwareFlow:
    """Of a Jetson Orin. NVIDIA's page and its code spell the grid's argument differently."""
    quality = getattr(vpi.OptFlowQuality, _QUALITIES[spec.quality])

    def pyramid(luma: Plane) -> Any:
        image = vpi.asimage(np.ascontiguousarray(luma), vpi.Format.Y8_ER)
        levels = image.gaussian_pyramid(LEVELS, backend=vpi.Backend.CUDA)
        return levels.convert(vpi.Format.Y8_ER_BL, backend=vpi.Backend.VIC)

    def flow(previous: Plane, current: Plane) -> NDArray[np.int16]:
        pair = pyramid(previous), pyramid(current)
        with vpi.Backend.OFA:
            try:
                vectors = vpi.optflow_dense(*pair, quality=quality, gridsize=spec.grid_px)
            except TypeError:
                vectors = vpi.optflow_dense(*pair, quality=quality, gridSize=spec.grid_px)
        with vectors.rlock_cpu() as data:
            return np.array(data, np.int16)

    return flow


def _open_nvof(spec: OFASpec, size_hw: tuple[int, int]) -> HardwareFlow:
    """Of a PC, with an OpenCV that was built with CUDA and its contributed modules."""
    import cv2

    cuda: Any = getattr(cv2, "cuda", None)
    create = getattr(cuda, "NvidiaOpticalFlow_2_0_create", None)
    if create is None:
        raise DeviceError(
            "motion ofa needs optical flow hardware: VPI 3 on a Jetson Orin (apt-get install "
            "python3.10-vpi3), or on a PC an OpenCV with cuda.NvidiaOpticalFlow_2_0"
        )
    preset = getattr(cuda, f"NvidiaOpticalFlow_2_0_NV_OF_PERF_LEVEL_{_PRESETS[spec.quality]}")
    grid = getattr(cuda, f"NvidiaOpticalFlow_2_0_NV_OF_OUTPUT_VECTOR_GRID_SIZE_{spec.grid_px}")
    height, width = size_hw
    hardware = create((width, height), perfPreset=preset, outputGridSize=grid)

    def flow(previous: Plane, current: Plane) -> NDArray[np.int16]:
        pair = np.ascontiguousarray(previous), np.ascontiguousarray(current)
        vectors, *_ = hardware.calc(*pair, None)
        return np.array(vectors, np.int16)

    return flow
