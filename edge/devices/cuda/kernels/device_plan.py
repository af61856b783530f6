"""What surrounds flow on the device: the view of a frame, the ring of flows, stacks; as launches.

Like flow_plan: buffers are given or taken once, and all launches of a frame are known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.devices.cuda.kernels.area_weights import area_weights
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

Place = Callable[[NDArray[Any]], int]  # array -> address of a copy on the device

THREADS = 256  # a block, of kernels along one line


def write_colour(matrix: Matrix, normalisation: Normalisation) -> NDArray[np.float32]:
    """`struct Colour` of preprocess.cu."""
    mean, std = np.asarray(normalisation.mean), np.asarray(normalisation.std)
    return np.array([*yuv_coefficients(matrix), *(1 / (255 * std)), *(-mean / std)], np.float32)


@dataclass(frozen=True, slots=True)
class _Plane:
    """A plane of a packed frame. rows: of the source's plane, those in the field of view; pitch:
    bytes from row to row; offset: of its first byte in the packed frame."""

    rows: slice
    pitch: int
    offset: int


class ViewPlan:
    """How frames of one size and range are packed for upload, and become luma and RGB.

    A packed frame has only the rows in the field of view, of Y, then U, then V.
    frame_bytes: its size.
    """

    def __init__(
        self, source_hw: tuple[int, int], full_range: bool, geometry: Geometry, place: Place
    ) -> None:
        top, left, view_h, view_w = center_crop(source_hw, geometry.aspect)
        out_h, out_w = geometry.size_hw
        chroma_h, chroma_w = (view_h + 1) // 2, (view_w + 1) // 2
        pitch, chroma_pitch = source_hw[1], (source_hw[1] + 1) // 2
        rows, chroma_rows = slice(top, top + view_h), slice(top // 2, top // 2 + chroma_h)
        u = view_h * pitch
        v = u + chroma_h * chroma_pitch
        self._size_hw, self._full_range = geometry.size_hw, int(full_range)
        self._y = _Plane(rows, pitch, 0)
        self._u = _Plane(chroma_rows, chroma_pitch, u)
        self._v = _Plane(chroma_rows, chroma_pitch, v)
        self.frame_bytes = v + chroma_h * chroma_pitch
        luma = area_weights((view_h, view_w), (out_h, out_w), 0, left)
        chroma = area_weights((chroma_h, chroma_w), (out_h // 2, out_w // 2), 0, left // 2)
        # addresses of the weights of rows and columns
        self._luma_weights = [place(weights) for weights in luma]
        self._chroma_weights = [place(weights) for weights in chroma]

    def pack(self, frame: Frame, out: NDArray[np.uint8]) -> None:
        """Copy the rows in the field of view to `out` (frame_bytes,)."""
        for plane, values in ((self._y, frame.y), (self._u, frame.u), (self._v, frame.v)):
            seen = values[plane.rows]
            out[plane.offset : plane.offset + seen.size].reshape(seen.shape)[:] = seen

    def luma(self, source: int, out: int) -> Launch:
        """source: address of a packed frame; out: (H, W) float32."""
        height, width = self._size_hw
        planes = (source, self._y.pitch, *self._luma_weights, self._full_range)
        grid = cover(self._size_hw, BLOCK)
        return Launch("resize_luma", grid, BLOCK, (*planes, height, width, out))

    def rgb(self, source: int, luma: int, colour: int, out: int) -> Launch:
        """luma: what `luma` gave; colour: address of `write_colour`; out: (3, H, W) float32."""
        height, width = self._size_hw
        u, v = source + self._u.offset, source + self._v.offset
        planes = (u, v, self._u.pitch, *self._chroma_weights, self._full_range)
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
