"""Frames in, frames at the model's size with their flow out, one step a frame: the code that
training, calibration and the camera share. The CUDA device does the same work with its own kernels
and is held to this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge.motion.method import Motion, open_motion
from edge.motion.quantise import FlowBytes
from edge.spec import Spec
from edge.video.frames import Frame, Geometry, Normalisation, resize_to_model, rgb_tensor


@dataclass(frozen=True, slots=True)
class Step:
    """frame: I420 at the model's size. flows: (2, H, W) uint8 from the frame before it, by the spec
    of their method; empty where there is no frame before."""

    frame: Frame
    flows: Mapping[Spec, FlowBytes] = field(default_factory=dict)


class Preprocessor:
    """Holds the frame before, which is all that flow needs to know of the past."""

    def __init__(
        self,
        geometry: Geometry,
        specs: Sequence[Spec],
        motions: Mapping[Spec, Motion] | None = None,
    ) -> None:
        """specs: the methods of motion whose flows are wanted. motions: what measures them, shared
        by preprocessors that are used from one thread."""
        self.geometry, self._specs = geometry, tuple(specs)
        self._motions = motions or {spec: open_motion(spec, geometry.size_hw) for spec in specs}
        self._previous: Frame | None = None

    def another(self) -> Preprocessor:
        """For the frames of another camera, in the same thread and workspace."""
        return Preprocessor(self.geometry, self._specs, self._motions)

    def warm_up(self) -> None:
        """Compile what is compiled on first use."""
        height, width = self.geometry.size_hw
        for motion in self._motions.values():
            motion.warm_up()
        grey = np.full((height, width), 128, np.uint8)
        chroma = np.full((height // 2, width // 2), 128, np.uint8)
        rgb_tensor(
            Frame(grey, chroma, chroma, 0.0, 0), Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)
        )

    def clear(self) -> None:
        """Forget the frame before: the next one has no flow."""
        self._previous = None

    def push(self, frame: Frame) -> Step:
        """Resize a frame and measure the flow that led to it. Times must rise."""
        return self.push_resized(resize_to_model(frame, self.geometry))

    def push_resized(self, current: Frame) -> Step:
        """The same for a frame that is at the model's size already."""
        previous, self._previous = self._previous, current
        if previous is None:
            return Step(current)
        flows = {spec: motion(previous, current) for spec, motion in self._motions.items()}
        return Step(current, flows)
