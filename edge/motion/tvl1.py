"""TV-L1 optical flow on one CPU core, with a fixed amount of work for each picture size.

It follows Zach, Pock, Bischof 2007 ("A duality based approach for realtime TV-L1 optical flow") and
Sánchez, Meinhardt-Llopis, Facciolo 2013 (IPOL, doi 10.5201/ipol.2013.26), with these differences,
each measured against ground truth:
  - the total variation is that of the vector field, |J(u, v)|, so both components share their edges
    and all four dual variables need only one reciprocal square root;
  - the dual step is projected gradient ascent, p / max(1, |p|), instead of Chambolle's
    semi-implicit step: it has the same fixed point and is closer to it after few iterations;
  - gradients are computed on the mean of the first and the warped second picture (5 points);
  - the data term fades out over one pixel where the warp leaves the picture. Unlike a mask, this is
    continuous, so implementations with different rounding give nearly the same flow;
  - there is no early stopping.

The algorithm, for pictures I0 and I1 (H, W), luma in 0..255:

    pyramids of both, each level the 2 x 2 mean of the finer one
    from the coarsest level (flow 0) to the finest (flow of the coarser level, doubled):
        duals p = 0
        `warps` times:
            warp I1 by (u, v), linearise the brightness difference
            `iterations` times: primal step, then dual step, both Jacobi
            3 x 3 median of u and of v

Most of the time goes to the iterations. One pixel of one iteration takes 51 operations, 24 loads
and 6 stores, nearly all in L1, so loads are the limit: with the four that cross cache lines, 28 /
16 cycles on a core that loads 64 bytes per cycle. On a Zen 4 core at 3.6 GHz, at 224 x 224:

                pixel-iterations   predicted   measured   whole call
    one                        1     0.49 ns    0.75 ns
    fast                   2.0 M      1.0 ms     1.6 ms       3.1 ms
    accurate              10.0 M      4.9 ms     7.9 ms        10 ms

The planes (u, v, four duals, four coefficients, the mean picture) are interleaved by rows, with a
pitch known at compile time. The addresses in a loop then differ by constants, so LLVM knows that
they do not overlap and vectorises the loop. Iterations run as a wavefront, whose rows (110 kB for
fast, 290 kB for accurate) fit in a 1 MB L2 cache; ten whole planes are 2 MB, and one sweep after
another takes 33% longer. Rows are aligned to cache lines; otherwise it takes 28% longer. There is
one thread: two bands of rows on two cores, with the second busy, were 7% faster at 224 x 224 but
slower at all coarser levels, and the second core is needed for the networks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.compiled import Kernel
from edge.motion.quantise import FlowBytes, quantise
from edge.motion.spec import TVL1Spec
from edge.motion.tvl1_layout import GUARD, ROW
from edge.video.frames import Frame, Plane

Array = NDArray[np.float32]

_MAX_SIDE = 1024
_flow = Kernel(
    "edge.motion.tvl1_kernel",
    "flow",
    *("int64[2]", "float32[4]!", "float32[1]!", "float32[3]!", "int32[1]!", "float32[1]!"),
    *("int64", "int64", "float32", "float32", "float32", "float32[3]!"),
    sees=("edge.motion.tvl1_layout",),
)


def _line_aligned_zeros(length: int) -> Array:
    """`length` zeros, aligned to a cache line, to which NumPy does not align."""
    padded = np.zeros(length + 16, np.float32)
    skip = -padded.ctypes.data % 64 // 4
    return padded[skip : skip + length]


class TVL1:
    """Flow between two luma planes of one size. An instance has a workspace: use it from one
    thread at a time."""

    def __init__(self, spec: TVL1Spec, size_hw: tuple[int, int]) -> None:
        """Raises ValueError if a side is not in 1..1024 px."""
        height, width = size_hw
        if not (1 <= height <= _MAX_SIDE and 1 <= width <= _MAX_SIDE):
            raise ValueError(f"flow needs sides from 1 to {_MAX_SIDE} px, not {height} x {width}")
        self.size_hw = (height, width)
        self._steps = (spec.warps, spec.iterations)
        self._weights = (
            np.float32(spec.theta),
            np.float32(spec.lambda_ * spec.theta),
            np.float32(spec.tau / spec.theta),
        )
        self._sizes = np.array(spec.pyramid_hw(size_hw), np.int64)
        self._pyramid = np.zeros((spec.scales, 2, height + 1, width + 1), np.float32)
        self._coarse = np.zeros((2, (height + 1) // 2, (width + 1) // 2), np.float32)
        self._offsets = np.zeros(width, np.int32)
        self._state = _line_aligned_zeros((height + 2 * GUARD) * ROW)

    def warm_up(self) -> None:
        """Compile, or load what was compiled, and run once."""
        blank = np.zeros(self.size_hw, np.uint8)
        self(blank, blank)

    def __call__(self, previous: Plane, following: Plane) -> Array:
        """Flow (2, H, W) float32 from `previous` to `following`, both (H, W) uint8 luma.

        Plane 0 is u (positive to the right), plane 1 is v (positive downwards), in px per interval
        of the pair: previous[y, x] corresponds to following[y + v, x + u]. Raises ValueError for
        planes of another size or type.
        """
        height, width = self.size_hw
        for k, (name, plane) in enumerate((("previous", previous), ("following", following))):
            if plane.shape != self.size_hw or plane.dtype != np.uint8:
                raise ValueError(
                    f"{name}: expected {self.size_hw} uint8, got {plane.shape} {plane.dtype}"
                )
            # Copied by NumPy, which takes any strides.
            self._pyramid[0, k, :height, :width] = plane
        out = np.empty((2, height, width), np.float32)
        _flow(
            self._sizes,
            self._pyramid,
            self._pyramid.reshape(-1),
            self._coarse,
            self._offsets,
            self._state,
            *self._steps,
            *self._weights,
            out,
        )
        return out


class TVL1Motion:
    """See edge.motion.method.Motion."""

    def __init__(self, spec: TVL1Spec, size_hw: tuple[int, int]) -> None:
        self._spec, self._tvl1 = spec, TVL1(spec, size_hw)

    def warm_up(self) -> None:
        self._tvl1.warm_up()
        blank = np.zeros((2, *self._tvl1.size_hw), np.float32)
        quantise(blank, self._spec, self._spec.interval_s)

    def __call__(self, previous: Frame, current: Frame) -> FlowBytes:
        interval_s = current.time_s - previous.time_s
        if interval_s <= 0:
            raise ValueError(f"frame times must rise: {previous.time_s} then {current.time_s}")
        return quantise(self._tvl1(previous.y, current.y), self._spec, interval_s)
