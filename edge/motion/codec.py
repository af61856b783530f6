"""Flow from the motion vectors of the video's codec (Zhang et al., "Real-time action recognition
with enhanced motion vector CNNs", CVPR 2016): nothing is searched, for the encoder has done it.

Each vector holds for a block of 8 to 16 px of the coded picture; where blocks overlap, as the two
of a B picture do, the flow is their mean. Pixels without a vector, of blocks that were coded
without one, do not move. Unlike TV-L1's, this flow lies on the grid of the newer frame.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge.compiled import Kernel
from edge.motion.quantise import FlowBytes, quantise
from edge.spec import Spec
from edge.video.frames import Frame
from edge.video.motion_vectors import MotionVectors, no_vectors


class CodecSpec(Spec):
    """interval_s: flow is in px per this interval, whatever the video's own. bound_px: flow is
    clipped to +-bound_px and mapped to 0..255."""

    method: Literal["codec"]
    interval_s: float = Field(ge=1e-3, le=1)
    bound_px: float = Field(ge=0.1, le=1024)

    def work(self, height: int, width: int) -> int:
        """The number of pixel iterations for one flow of this size."""
        return height * width


# Interval and bound as of the presets of TV-L1, so that networks can start from each other.
CODEC = CodecSpec(method="codec", interval_s=0.04, bound_px=20.0)

_paint = Kernel(
    "edge.motion.codec_kernel",
    "paint",
    *("float32[2]", "float32[2]", "float32[3]!", "int32[2]!"),
)


def velocity_field(vectors: MotionVectors, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """The velocity of each pixel, (2, H, W) float32, px per second to the right and downwards; 0
    where there is no vector."""
    sums = np.empty((2, *size_hw), np.float32)
    boxes, velocities = map(np.ascontiguousarray, (vectors.boxes, vectors.velocities))
    _paint(boxes, velocities, sums, np.empty(size_hw, np.int32))
    return sums


class CodecMotion:
    """See edge.motion.method.Motion."""

    def __init__(self, spec: CodecSpec, size_hw: tuple[int, int]) -> None:
        self._spec, self._size_hw = spec, size_hw

    def warm_up(self) -> None:
        self._flow(no_vectors())

    def __call__(self, previous: Frame, current: Frame) -> FlowBytes:
        if current.time_s <= previous.time_s:
            raise ValueError(f"frame times must rise: {previous.time_s} then {current.time_s}")
        if current.vectors is None:
            raise ValueError(f"frame {current.index} has no motion vectors: open its source for it")
        return self._flow(current.vectors)

    def _flow(self, vectors: MotionVectors) -> FlowBytes:
        return quantise(velocity_field(vectors, self._size_hw), self._spec, 1.0)
