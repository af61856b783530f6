"""TV-L1 as a fixed list of launches: buffers are allocated once and all arguments are known
beforehand, so for each frame the host only starts the kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edge.devices.cuda.kernels.launches import Launch, cover
from edge.motion.spec import TVL1Spec

Allocate = Callable[[int], int]  # size in bytes -> address of zeroed GPU memory

BLOCK = (32, 8)  # threads (x, y) of kernels with one thread per pixel
LINEARISE_BLOCK = (32, 16)  # BLOCK_W, BLOCK_H of tvl1.cu
TILE, STRIPS = 64, 8  # of tvl1.cu
# The maximum of iterations per launch: more make tiles overlap too much, fewer cost launches.
FUSED = 10
SLOTS = 2  # pyramids: of the previous frame and of this one


def tiles(side: int, iterations: int) -> int:
    """How many tiles of `iterate` cover a side of `side` px."""
    stride = TILE - 2 * iterations - 1
    return max(-(-(side - TILE) // stride), 0) + 1


def split_iterations(iterations: int) -> list[int]:
    """The iterations of each launch: as few launches as FUSED allows, of nearly equal length."""
    count = -(-iterations // FUSED)
    return [iterations // count + (k < iterations % count) for k in range(count)]


def allocate_luma(size_hw: tuple[int, int], allocate: Allocate) -> list[int]:
    """Addresses of SLOTS luma pictures (H, W) float32, which frames use in turn."""
    return [allocate(4 * size_hw[0] * size_hw[1]) for _ in range(SLOTS)]


class _Pyramid:
    """A luma picture at all scales. levels: their addresses, the largest first; launches: compute
    all but the largest from it."""

    def __init__(self, luma: int, sizes_hw: Sequence[tuple[int, int]], allocate: Allocate) -> None:
        areas = [height * width for height, width in sizes_hw]
        self.levels = [luma, *(allocate(4 * area) for area in areas[1:])]
        self.launches = [
            Launch("halve", cover(half, BLOCK), BLOCK, (fine, *size, coarse))
            for fine, coarse, size, half in zip(
                self.levels, self.levels[1:], sizes_hw, sizes_hw[1:], strict=False
            )
        ]


class FlowPlan:
    """The buffers and launches of TV-L1 for pictures of one size (H, W).

    pyramids: for each slot, the launches that compute its pyramid. flows: for each slot, the
    launches of the flow from the other slot's picture to this one's; both pyramids must exist.
    flow: address of the result, (2, H, W) float32, valid until the next flow.
    """

    def __init__(
        self,
        spec: TVL1Spec,
        size_hw: tuple[int, int],
        luma: Sequence[int],
        allocate: Allocate,
    ) -> None:
        """luma: addresses of the SLOTS pictures (H, W) float32, which the caller fills."""
        self._spec = spec
        self._sizes = spec.pyramid_hw(size_hw)
        area = size_hw[0] * size_hw[1]
        pyramids = [_Pyramid(picture, self._sizes, allocate) for picture in luma]
        self._coefficients = allocate(4 * 4 * area)
        self._flows = [allocate(2 * 4 * area) for _ in range(2)]
        self._duals = [allocate(4 * 4 * area) for _ in range(2)]
        self._zeros = allocate(4 * 4 * area)  # the initial flow, and the initial duals of a level
        self.pyramids = [pyramid.launches for pyramid in pyramids]
        self.flows = []
        for slot in range(SLOTS):
            launches, self.flow = self._steps(pyramids[1 - slot].levels, pyramids[slot].levels)
            self.flows.append(launches)

    def _steps(self, previous: Sequence[int], following: Sequence[int]) -> tuple[list[Launch], int]:
        """The launches of the flow from one pyramid to another, and the address of the result,
        which does not depend on the pyramids."""
        spec = self._spec
        launches: list[Launch] = []
        flow = self._zeros
        for level in reversed(range(spec.scales)):
            size, pictures = self._sizes[level], (previous[level], following[level])
            if level < spec.scales - 1:
                doubled = _other(self._flows, flow)
                arguments = (flow, *self._sizes[level + 1], *size, doubled)
                launches.append(Launch("upsample", cover(size, BLOCK), BLOCK, arguments))
                flow = doubled
            duals = self._zeros
            for _ in range(spec.warps):
                grid, block = cover(size, LINEARISE_BLOCK), LINEARISE_BLOCK
                arguments = (*pictures, flow, *size, self._coefficients)
                launches.append(Launch("linearise", grid, block, arguments))
                counts = split_iterations(spec.iterations)
                for k, iterations in enumerate(counts):
                    smooth = k == len(counts) - 1
                    inputs = (flow, duals)
                    flow, duals = _other(self._flows, flow), _other(self._duals, duals)
                    launches.append(self._iterate(size, inputs, iterations, smooth, (flow, duals)))
        return launches, flow

    def _iterate(
        self,
        size: tuple[int, int],
        inputs: tuple[int, int],
        iterations: int,
        smooth: bool,
        outputs: tuple[int, int],
    ) -> Launch:
        """inputs, outputs: addresses of flow and duals. smooth: whether a median filter follows."""
        spec = self._spec
        weights = (spec.theta, spec.lambda_ * spec.theta, spec.tau / spec.theta)
        grid = (tiles(size[1], iterations), tiles(size[0], iterations))
        arguments = (self._coefficients, *inputs, *size, iterations, int(smooth), *weights)
        return Launch("iterate", grid, (TILE, STRIPS), (*arguments, *outputs))


def _other(buffers: Sequence[int], buffer: int) -> int:
    """The buffer of a pair that is not `buffer`; the first if neither is."""
    first, second = buffers
    return second if buffer == first else first


# By the method's name in a manifest: (spec, size_hw, luma, allocate) -> its buffers and launches.
FLOW_PLANS: dict[str, Callable[[Any, tuple[int, int], Sequence[int], Allocate], FlowPlan]] = {
    "tvl1": FlowPlan
}
