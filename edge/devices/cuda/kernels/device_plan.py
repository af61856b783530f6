"""What surrounds flow on the device: the view of a frame, stacks, scores; as launches.

Like flow_plan: buffers are given or taken once, and all launches of a frame are known beforehand.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import FusionSpec
from edge.devices.cuda.kernels.area_weights import TAPS, area_weights
from edge.devices.cuda.kernels.flow_plan import BLOCK, Allocate
from edge.devices.cuda.kernels.launches import Launch, cover
from edge.motion.spec import FlowSpec
from edge.motion.stack import Layout
from edge.video.frames import (
    Frame,
    Geometry,
    Matrix,
    Normalisation,
    center_crop,
    yuv_coefficients,
)

THREADS = 256  # a block, of kernels along one line
FUSE_THREADS = 128  # THREADS of scores.cu


def write_colour(matrix: Matrix, normalisation: Normalisation) -> NDArray[np.float32]:
    """`struct Colour` of preprocess.cu."""
    mean, std = np.asarray(normalisation.mean), np.asarray(normalisation.std)
    return np.array([*yuv_coefficients(matrix), *(1 / (255 * std)), *(-mean / std)], np.float32)


def is_nv12(frame: Frame) -> bool:
    """Whether U and V are the bytes of one plane of pairs, U first."""
    apart = frame.v.ctypes.data - frame.u.ctypes.data
    return frame.u.strides == frame.v.strides and frame.u.strides[1] == 2 and apart == 1


class ViewPlan:
    """How frames of one size and format are packed for upload, and become luma and RGB.

    Only the rows in the field of view are uploaded: luma, then U and V apart (I420) or as pairs
    (NV12).
    frame_bytes: of a packed frame. taps: for the rows and columns of luma, then of chroma.
    """

    def __init__(
        self, source_hw: tuple[int, int], nv12: bool, full_range: bool, geometry: Geometry
    ) -> None:
        top, left, view_h, view_w = center_crop(source_hw, geometry.aspect)
        out_h, out_w = geometry.size_hw
        self._size_hw = geometry.size_hw
        self._full_range, self._nv12 = int(full_range), nv12
        self._rows = slice(top, top + view_h)
        chroma_h, chroma_w = (view_h + 1) // 2, (view_w + 1) // 2
        self._chroma_rows = slice(top // 2, top // 2 + chroma_h)
        self._pitch, self._chroma_pitch = source_hw[1], (source_hw[1] + 1) // 2
        self._luma_bytes = view_h * self._pitch
        self._chroma_bytes = chroma_h * self._chroma_pitch
        self.frame_bytes = self._luma_bytes + 2 * self._chroma_bytes
        luma = area_weights((view_h, view_w), (out_h, out_w), 0, left)
        chroma = area_weights((chroma_h, chroma_w), (out_h // 2, out_w // 2), 0, left // 2)
        self.taps = np.concatenate([*luma, *chroma])

    def pack(self, frame: Frame, out: NDArray[np.uint8]) -> None:
        """Copy what is seen of a frame to `out` (frame_bytes,)."""
        luma, chroma = out[: self._luma_bytes], out[self._luma_bytes : self.frame_bytes]
        luma.reshape(-1, self._pitch)[:] = frame.y[self._rows]
        u, v = frame.u[self._chroma_rows], frame.v[self._chroma_rows]
        if self._nv12:  # whole rows of pairs, not bytes of U and of V
            shape = (u.shape[0], 2 * self._chroma_pitch)
            pairs = np.lib.stride_tricks.as_strided(u, shape, (u.strides[0], 1), writeable=False)
            chroma.reshape(shape)[:] = pairs
        else:
            both = chroma.reshape(2, -1, self._chroma_pitch)
            both[0], both[1] = u, v

    def luma(self, source: int, taps: int, out: int) -> Launch:
        """source: address of a packed frame; taps: of self.taps; out: (H, W) float32."""
        height, width = self._size_hw
        columns = taps + height * TAPS.itemsize
        arguments = (source, self._pitch, taps, columns, self._full_range, height, width, out)
        return Launch("resize_luma", cover(self._size_hw, BLOCK), BLOCK, arguments)

    def rgb(self, source: int, taps: int, luma: int, colour: int, out: int) -> Launch:
        """luma: what `luma` gave; colour: address of `write_colour`; out: (3, H, W) float32."""
        height, width = self._size_hw
        rows = taps + (height + width) * TAPS.itemsize
        columns = rows + height // 2 * TAPS.itemsize
        u = source + self._luma_bytes
        step = 2 if self._nv12 else 1
        v = u + (1 if self._nv12 else self._chroma_bytes)
        planes = (u, v, step * self._chroma_pitch, step, rows, columns, self._full_range)
        grid = cover((height // 2, width // 2), BLOCK)
        return Launch("rgb", grid, BLOCK, (*planes, luma, colour, height, width, out))


class StackPlan:
    """The ring of the last L flows as bytes, and the temporal network's input made of it.

    flow: address of (2, H, W) float32; out: of the input (2L, H, W) float32. ring: (L, 2, H, W)
    uint8, flow number n in slot n mod L. stacks: the launch for the newest flow in each slot.
    """

    def __init__(
        self,
        spec: FlowSpec,
        size_hw: tuple[int, int],
        length: int,
        layout: Layout,
        normalisation: Normalisation,
        flow: int,
        out: int,
        allocate: Allocate,
    ) -> None:
        self._spec, self._length, self._flow = spec, length, flow
        self._count = 2 * size_hw[0] * size_hw[1]
        self.ring = allocate(length * self._count)
        (mean,), (std,) = normalisation.mean, normalisation.std
        values = (1 / (255 * std), -mean / std)
        pixels = self._count // 2
        grid = (-(-pixels // 4 // THREADS), 2 * length)
        interleaved = int(layout == "interleaved")
        self.stacks = [
            Launch(
                "stack",
                grid,
                (THREADS, 1),
                (self.ring, (newest + 1) % length, length, interleaved, pixels, *values, out),
            )
            for newest in range(length)
        ]

    def slot(self, index: int) -> int:
        """Address of the bytes (2, H, W) of flow number `index`."""
        return self.ring + index % self._length * self._count

    def quantise(self, index: int, interval_s: float) -> Launch:
        """The flow, in px over `interval_s` seconds, into the ring as number `index`."""
        scale = 127.5 / self._spec.bound_px * self._spec.interval_s / interval_s
        grid = (-(-self._count // THREADS), 1)
        arguments = (self._flow, scale, self._count, self.slot(index))
        return Launch("quantise", grid, (THREADS, 1), arguments)


class FusePlan:
    """Both streams' logits (C,) to scores (3, C): spatial, temporal, fused."""

    def __init__(
        self,
        classes: int,
        temperatures: tuple[float, float],
        fusion: FusionSpec,
        spatial: int,
        temporal: int,
        allocate: Allocate,
    ) -> None:
        self.scores = allocate(3 * 4 * classes)
        total = fusion.spatial_weight + fusion.temporal_weight
        weights = (fusion.spatial_weight / total, fusion.temporal_weight / total)
        arguments = (spatial, temporal, classes, *temperatures, *weights, self.scores)
        self.launch = Launch("fuse", (1, 1), (FUSE_THREADS, 1), arguments)
