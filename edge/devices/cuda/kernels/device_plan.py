"""The launches around flow: a frame to luma and RGB, flows to bytes, and stacks of them to inputs.

As in flow_plan, buffers are allocated once and the arguments of all launches are known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.devices.cuda.kernels.flow_plan import BLOCK, Allocate
from edge.devices.cuda.kernels.launches import Launch, cover
from edge.motion.quantise import FlowScale
from edge.video.area_weights import area_weights
from edge.video.frames import (
    Frame,
    Geometry,
    Matrix,
    Normalisation,
    center_crop,
    yuv_coefficients,
)

Place = Callable[[NDArray[Any]], int]  # array -> address of a copy on the device

THREADS = 256  # per block, of kernels with a one-dimensional block


def rgb_coefficients(matrix: Matrix, normalisation: Normalisation) -> NDArray[np.float32]:
    """`struct Colour` of preprocess.cu, (10,) float32: YUV to RGB by `matrix`, then scale and shift
    of each channel for `normalisation`."""
    mean, std = np.asarray(normalisation.mean), np.asarray(normalisation.std)
    return np.array([*yuv_coefficients(matrix), *(1 / (255 * std)), *(-mean / std)], np.float32)


@dataclass(frozen=True, slots=True)
class _Plane:
    """A plane of a packed frame. rows: of the frame's plane, those in the field of view; pitch:
    bytes per row; offset: of the plane in the packed frame, in bytes."""

    rows: slice
    pitch: int
    offset: int


class ViewPlan:
    """Packs frames of one size and range for upload, and converts them to luma and RGB at the
    model's size (H, W).

    A packed frame holds the rows in the field of view only: of Y, then U, then V. frame_bytes: its
    size.
    """

    def __init__(
        self,
        source_hw: tuple[int, int],
        full_range: bool,
        pixel_aspect: tuple[int, int],
        geometry: Geometry,
        place: Place,
    ) -> None:
        top, left, view_h, view_w = center_crop(source_hw, geometry.aspect, pixel_aspect)
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
        # addresses of the weights of the rows, and of the columns
        self._luma_weights = [place(weights) for weights in luma]
        self._chroma_weights = [place(weights) for weights in chroma]

    def pack(self, frame: Frame, out: NDArray[np.uint8]) -> None:
        """Copy the rows in the field of view to `out` (frame_bytes,)."""
        for plane, values in ((self._y, frame.y), (self._u, frame.u), (self._v, frame.v)):
            visible = values[plane.rows]
            out[plane.offset : plane.offset + visible.size].reshape(visible.shape)[:] = visible

    def luma(self, source: int, out: int) -> Launch:
        """Resize luma. source: address of a packed frame; out: of (H, W) float32."""
        height, width = self._size_hw
        planes = (source, self._y.pitch, *self._luma_weights, self._full_range)
        grid = cover(self._size_hw, BLOCK)
        return Launch("resize_luma", grid, BLOCK, (*planes, height, width, out))

    def rgb(self, source: int, luma: int, colour: int, out: int) -> Launch:
        """Resize chroma and convert to normalised RGB. Addresses: source, of a packed frame; luma,
        of the result of `luma`; colour, of `rgb_coefficients`; out, of (3, H, W) float32."""
        height, width = self._size_hw
        u, v = source + self._u.offset, source + self._v.offset
        planes = (u, v, self._u.pitch, *self._chroma_weights, self._full_range)
        grid = cover((height // 2, width // 2), BLOCK)
        return Launch("rgb", grid, BLOCK, (*planes, luma, colour, height, width, out))


FLOW_PLACE = Struct("<fi")  # `struct FlowPlace` of stack.cu


class RingPlan:
    """A ring buffer of the last flows of one motion method as bytes, (slots, 2, H, W) uint8: flow
    number n is in slot n mod slots. pixels: H W. address: of the ring."""

    def __init__(
        self,
        scale: FlowScale,
        size_hw: tuple[int, int],
        slots: int,
        flow: int,
        allocate: Allocate,
    ) -> None:
        """flow: address of the newest flow, (2, H, W) float32."""
        self._scale, self._flow = scale, flow
        self.slots, self.pixels = slots, size_hw[0] * size_hw[1]
        self.address = allocate(slots * 2 * self.pixels)

    def slot(self, index: int) -> int:
        """Address of the bytes (2, H, W) of flow number `index`."""
        return self.address + index % self.slots * 2 * self.pixels

    def place(self, index: int, interval_s: float) -> tuple[float, int]:
        """A FLOW_PLACE: of flow number `index`, in px per `interval_s` seconds. See
        edge.motion.quantise."""
        scale = 127.5 / self._scale.bound_px * self._scale.interval_s / interval_s
        return scale, index % self.slots

    def quantise(self, place: int) -> Launch:
        """Write the newest flow into the ring. place: address of its FLOW_PLACE."""
        count = 2 * self.pixels
        grid = (-(-count // THREADS), 1)
        return Launch("quantise", grid, (THREADS, 1), (self._flow, place, count, self.address))


class StackPlan:
    """Fills the input (2L, H, W) float32 of a network from the last L flows of a ring."""

    def __init__(self, ring: RingPlan, length: int, normalisation: Normalisation, out: int) -> None:
        """length: L, at most the slots of the ring; out: address of the input."""
        (mean,), (std,) = normalisation.mean, normalisation.std
        self._ring, self._length, self._out = ring, length, out
        self._values = (1 / (255 * std), -mean / std)

    def stack(self, place: int) -> Launch:
        """place: address of the FLOW_PLACE of the newest flow."""
        ring, length = self._ring, self._length
        grid = (-(-ring.pixels // 4 // THREADS), 2 * length)
        arguments = (ring.address, place, ring.slots, length, ring.pixels)
        return Launch("stack", grid, (THREADS, 1), (*arguments, *self._values, self._out))
