"""TV-L1 as a fixed list of launches: all buffers are taken and all arguments known beforehand, so a
frame costs the host nothing but the launches themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edge.devices.cuda.kernels.launches import Launch, cover
from edge.motion.spec import TVL1Spec

Allocate = Callable[[int], int]  # bytes -> address of so much zeroed device memory

BLOCK = (32, 8)  # of kernels with one thread a pixel
LINEARISE_BLOCK = (32, 16)  # BLOCK_W, BLOCK_H of tvl1.cu
TILE, STRIPS = 64, 8  # of tvl1.cu
FUSED = 10  # iterations a launch at most: more make tiles overlap too much, fewer cost launches
SLOTS = 2  # pyramids: one of the frame before, one of this frame


def tiles(side: int, iterations: int) -> int:
    """How many tiles of `iterate` cover a side."""
    apart = TILE - 2 * iterations - 1
    return max(-(-(side - TILE) // apart), 0) + 1


def split_iterations(iterations: int) -> list[int]:
    """Iterations of each launch: as few launches as FUSED allows, as even as they can be."""
    count = -(-iterations // FUSED)
    return [iterations // count + (k < iterations % count) for k in range(count)]


def allocate_luma(size_hw: tuple[int, int], allocate: Allocate) -> list[int]:
    """Pictures (H, W) float32 of the frame before and of this one, in turns."""
    return [allocate(4 * size_hw[0] * size_hw[1]) for _ in range(SLOTS)]


class FlowPlan:
    """Buffers of TV-L1 for pictures (H, W), and the launches that fill them.

    luma: addresses of the SLOTS pictures, (H, W) float32 each, which the caller fills.
    flow: address of the result, (2, H, W) float32, valid until the next flow.
    """

    def __init__(
        self,
        spec: TVL1Spec,
        size_hw: tuple[int, int],
        luma: Sequence[int],
        allocate: Allocate,
    ) -> None:
        self._spec = spec
        self._sizes = [size_hw]
        while len(self._sizes) < spec.scales:
            height, width = self._sizes[-1]
            self._sizes.append(((height + 1) // 2, (width + 1) // 2))
        areas = [height * width for height, width in self._sizes]
        self._pyramids = [[fine, *(allocate(4 * area) for area in areas[1:])] for fine in luma]
        self._coefficients = allocate(4 * 4 * areas[0])
        self._flows = [allocate(2 * 4 * areas[0]) for _ in range(2)]
        self._duals = [allocate(4 * 4 * areas[0]) for _ in range(2)]
        self._zeros = allocate(4 * 4 * areas[0])  # the duals of a new level, the coarsest flow
        self.pyramids = [self._pyramid(slot) for slot in range(SLOTS)]
        steps = [self._steps(1 - slot, slot) for slot in range(SLOTS)]
        self.flows = [launches for launches, _ in steps]
        self.flow = steps[0][1]

    def _pyramid(self, slot: int) -> list[Launch]:
        """The coarser levels of a slot's luma."""
        levels = self._pyramids[slot]
        return [
            Launch("halve", cover(half, BLOCK), BLOCK, (levels[k], *size, levels[k + 1]))
            for k, (size, half) in enumerate(zip(self._sizes, self._sizes[1:], strict=False))
        ]

    def _steps(self, previous: int, following: int) -> tuple[list[Launch], int]:
        """Flow from one slot's pyramid to the other's, and where it ends up."""
        spec, launches = self._spec, []
        flow, spare = self._flows
        for level in range(spec.scales - 1, -1, -1):
            size = self._sizes[level]
            if level == spec.scales - 1:
                current = self._zeros
            else:
                arguments = (flow, *self._sizes[level + 1], *size, spare)
                launches.append(Launch("upsample", cover(size, BLOCK), BLOCK, arguments))
                flow, spare = spare, flow
                current = flow
            duals = self._zeros
            for _ in range(spec.warps):
                pictures = (self._pyramids[previous][level], self._pyramids[following][level])
                launches.append(
                    Launch(
                        "linearise",
                        cover(size, LINEARISE_BLOCK),
                        LINEARISE_BLOCK,
                        (*pictures, current, *size, self._coefficients),
                    )
                )
                fused = split_iterations(spec.iterations)
                for k, iterations in enumerate(fused):
                    next_duals = self._duals[duals == self._duals[0]]
                    smooth = k == len(fused) - 1
                    launches.append(
                        self._iterate(size, current, duals, iterations, smooth, spare, next_duals)
                    )
                    flow, spare, duals = spare, flow, next_duals
                    current = flow
        return launches, flow

    def _iterate(
        self,
        size: tuple[int, int],
        flow: int,
        duals: int,
        iterations: int,
        smooth: bool,
        flow_out: int,
        duals_out: int,
    ) -> Launch:
        spec = self._spec
        weights = (spec.theta, spec.lambda_ * spec.theta, spec.tau / spec.theta)
        grid = (tiles(size[1], iterations), tiles(size[0], iterations))
        arguments = (self._coefficients, flow, duals, *size, iterations, int(smooth), *weights)
        return Launch("iterate", grid, (TILE, STRIPS), (*arguments, flow_out, duals_out))


# By the method's name in the manifest: (spec, size_hw, luma, allocate) -> its launches.
FLOW_PLANS: dict[str, Callable[[Any, tuple[int, int], Sequence[int], Allocate], FlowPlan]] = {
    "tvl1": FlowPlan
}
