"""Resizes frames to the model's size and computes their flow, for training, calibration and the
CPU device. The CUDA device does the same with its own kernels, which are tested against this
module.
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
    """A preprocessed frame. frame: at the model's size. flows: from the previous frame, (2, H, W)
    uint8 each, by the spec of their method; empty if there is no previous frame."""

    frame: Frame
    flows: Mapping[Spec, FlowBytes] = field(default_factory=dict)


class Preprocessor:
    """Preprocesses the frames of one source, and keeps the previous frame."""

    def __init__(
        self,
        geometry: Geometry,
        specs: Sequence[Spec],
        motions: Mapping[Spec, Motion] | None = None,
    ) -> None:
        """specs: of the motion methods to compute. motions: the opened methods; None opens them.
        Preprocessors may share them within one thread."""
        self.geometry, self._specs = geometry, tuple(specs)
        self._motions = motions or {spec: open_motion(spec, geometry.size_hw) for spec in specs}
        self._previous: Frame | None = None

    def another(self) -> Preprocessor:
        """A preprocessor for another source, with the same motion methods; use it from the same
        thread."""
        return Preprocessor(self.geometry, self._specs, self._motions)

    def warm_up(self) -> None:
        """Compile what would be compiled on first use."""
        height, width = self.geometry.size_hw
        for motion in self._motions.values():
            motion.warm_up()
        grey = np.full((3 * height, 3 * width), 128, np.uint8)
        frame = resize_to_model(Frame(grey, grey[::2, ::2], grey[::2, ::2], 0.0, 0), self.geometry)
        rgb_tensor(frame, Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3))

    def clear(self) -> None:
        """Forget the previous frame: the next one has no flow."""
        self._previous = None

    def push(self, frame: Frame) -> Step:
        """Resize a frame and compute the flow from the previous one. Raises ValueError if times do
        not rise."""
        return self.push_resized(resize_to_model(frame, self.geometry))

    def push_resized(self, current: Frame) -> Step:
        """Like `push`, for a frame that has already been resized."""
        previous, self._previous = self._previous, current
        if previous is None:
            return Step(current)
        flows = {spec: motion(previous, current) for spec, motion in self._motions.items()}
        return Step(current, flows)
