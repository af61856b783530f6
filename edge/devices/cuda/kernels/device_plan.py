"""What surrounds flow on the device: the view of a frame, the ring of flows, stacks; as launches.

Like flow_plan: buffers are given or taken once, and all launches of a frame are known beforehand.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.devices.cuda.kernels.area_weights import AREA_WEIGHTS, area_weights
from edge.devices.cuda.kernels.flow_plan import BLOCK, Allocate
from edge.devices.cuda.kernels.launches import Launch, cover
from edge.motion.quantise import FlowScale
from edge.video.frames import (
    Frame,
    Geometry,
    Matrix,
    Normalisation,
    center_crop,
    yuv_coefficients,
)

THREADS = 256  # a block, of kernels along one line


def write_colour(matrix: Matrix, normalisation: Normalisation) -> NDArray[np.float32]:
    """`struct Colour` of preprocess.cu."""
    mean, std = np.asarray(normalisation.mean), np.asarray(normalisation.std)
    return np.array([*yuv_coefficients(matrix), *(1 / (255 * std)), *(-mean / std)], np.float32)


class ViewPlan:
    """How frames of one size and range are packed for upload, and become luma and RGB.

    Only the rows in the field of view are uploaded: luma, then U, then V.
    frame_bytes: of a packed frame. weights: for the rows and columns of luma, then of chroma.
    """

    def __init__(self, source_hw: tuple[int, int], full_range: bool, geometry: Geometry) -> None:
        top, left, view_h, view_w = center_crop(source_hw, geometry.aspect)
        out_h, out_w = geometry.size_hw
        self._size_hw = geometry.size_hw
        self._full_range = int(full_range)
        self._rows = slice(top, top + view_h)
        chroma_h, chroma_w = (view_h + 1) // 2, (view_w + 1) // 2
        self._chroma_rows = slice(top // 2, top // 2 + chroma_h)
        self._pitch, self._chroma_pitch = source_hw[1], (source_hw[1] + 1) // 2
        self._luma_bytes = view_h * self._pitch
        self._chroma_bytes = chroma_h * self._chroma_pitch
        self.frame_bytes = self._luma_bytes + 2 * self._chroma_bytes
        luma = area_weights((view_h, view_w), (out_h, out_w), 0, left)
        chroma = area_weights((chroma_h, chroma_w), (out_h // 2, out_w // 2), 0, left // 2)
        self.weights = np.concatenate([*luma, *chroma])

    def pack(self, frame: Frame, out: NDArray[np.uint8]) -> None:
        """Copy what is seen of a frame to `out` (frame_bytes,)."""
        luma, chroma = out[: self._luma_bytes], out[self._luma_bytes : self.frame_bytes]
        luma.reshape(-1, self._pitch)[:] = frame.y[self._rows]
        both = chroma.reshape(2, -1, self._chroma_pitch)
        both[0], both[1] = frame.u[self._chroma_rows], frame.v[self._chroma_rows]

    def luma(self, source: int, weights: int, out: int) -> Launch:
        """source: address of a packed frame; weights: of self.weights; out: (H, W) float32."""
        height, width = self._size_hw
        columns = weights + height * AREA_WEIGHTS.itemsize
        arguments = (source, self._pitch, weights, columns, self._full_range, height, width, out)
        return Launch("resize_luma", cover(self._size_hw, BLOCK), BLOCK, arguments)

    def rgb(self, source: int, weights: int, luma: int, colour: int, out: int) -> Launch:
        """luma: what `luma` gave; colour: address of `write_colour`; out: (3, H, W) float32."""
        height, width = self._size_hw
        rows = weights + (height + width) * AREA_WEIGHTS.itemsize
        columns = rows + height // 2 * AREA_WEIGHTS.itemsize
        u = source + self._luma_bytes
        v = u + self._chroma_bytes
        planes = (u, v, self._chroma_pitch, rows, columns, self._full_range)
        grid = cover((height // 2, width // 2), BLOCK)
        return Launch("rgb", grid, BLOCK, (*planes, luma, colour, height, width, out))


class RingPlan:
    """The last flows of one method of motion as bytes, (slots, 2, H, W) uint8, flow number n in
    slot n mod slots.

    flow: address of the newest one, (2, H, W) float32. address: of the ring.
    """

    def __init__(
        self,
        scale: FlowScale,
        size_hw: tuple[int, int],
        slots: int,
        flow: int,
        allocate: Allocate,
    ) -> None:
        self._scale, self._flow = scale, flow
        self.slots, self.pixels = slots, size_hw[0] * size_hw[1]
        self.address = allocate(slots * 2 * self.pixels)

    def slot(self, index: int) -> int:
        """Address of the bytes (2, H, W) of flow number `index`."""
        return self.address + index % self.slots * 2 * self.pixels

    def quantise(self, index: int, interval_s: float) -> Launch:
        """The flow, in px over `interval_s` seconds, into the ring as number `index`."""
        scale = 127.5 / self._scale.bound_px * self._scale.interval_s / interval_s
        count = 2 * self.pixels
        grid = (-(-count // THREADS), 1)
        arguments = (self._flow, scale, count, self.slot(index))
        return Launch("quantise", grid, (THREADS, 1), arguments)


class StackPlan:
    """The input (2L, H, W) float32 of a network that sees the last L flows of a ring.

    out: its address. stacks: the launch for the newest flow in each slot of the ring.
    """

    def __init__(self, ring: RingPlan, length: int, normalisation: Normalisation, out: int) -> None:
        (mean,), (std,) = normalisation.mean, normalisation.std
        values = (1 / (255 * std), -mean / std)
        grid = (-(-ring.pixels // 4 // THREADS), 2 * length)
        self.stacks = [
            Launch(
                "stack",
                grid,
                (THREADS, 1),
                (
                    ring.address,
                    ring.slots,
                    (newest + 1 - length) % ring.slots,
                    length,
                    ring.pixels,
                    *values,
                    out,
                ),
            )
            for newest in range(ring.slots)
        ]
