"""Frames in, network inputs out, one step a frame: the code that training, calibration and the
camera share. The CUDA device does the same work with its own kernels and is held to this one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.motion.spec import FlowSpec
from edge.motion.stack import FlowBytes, quantise
from edge.motion.tvl1 import TVL1
from edge.video.frames import Frame, Geometry, Normalisation, resize_to_model, rgb_tensor


@dataclass(frozen=True, slots=True)
class Step:
    """frame: I420 at the model's size; flow: (2, H, W) uint8 from the frame before it, or None."""

    frame: Frame
    flow: FlowBytes | None


class Preprocessor:
    """Holds the frame before, which is all that flow needs to know of the past."""

    def __init__(self, geometry: Geometry, flow: FlowSpec, tvl1: TVL1 | None = None) -> None:
        """tvl1: whose workspace is shared, by preprocessors that are used from one thread."""
        self.geometry = geometry
        self.flow = flow
        self._tvl1 = tvl1 or TVL1(flow, geometry.size_hw)
        self._previous: Frame | None = None

    def another(self) -> Preprocessor:
        """For the frames of another camera, in the same thread and workspace."""
        return Preprocessor(self.geometry, self.flow, self._tvl1)

    def warm_up(self) -> None:
        """Compile what is compiled on first use."""
        height, width = self.geometry.size_hw
        self._tvl1.warm_up()
        grey = np.full((height, width), 128, np.uint8)
        chroma = np.full((height // 2, width // 2), 128, np.uint8)
        frame = Frame(grey, chroma, chroma, 0.0, 0)
        rgb_tensor(frame, Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3))
        quantise(np.zeros((2, height, width), np.float32), self.flow, self.flow.interval_s)

    def clear(self) -> None:
        """Forget the frame before: the next one has no flow."""
        self._previous = None

    @property
    def has_previous(self) -> bool:
        """Whether the next frame will have a flow."""
        return self._previous is not None

    def push(self, frame: Frame) -> Step:
        """Analyse a frame and measure the flow that led to it. Times must rise."""
        return self.push_resized(resize_to_model(frame, self.geometry))

    def push_resized(self, current: Frame) -> Step:
        """The same for a frame that is at the model's size already."""
        previous, self._previous = self._previous, current
        if previous is None:
            return Step(current, None)
        interval_s = current.time_s - previous.time_s
        if interval_s <= 0:
            raise ValueError(f"frame times must rise: {previous.time_s} then {current.time_s}")
        pixels: NDArray[np.float32] = self._tvl1(previous.y, current.y)  # (2, H, W)
        return Step(current, quantise(pixels, self.flow, interval_s))
