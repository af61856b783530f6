"""Clips as inputs of 3D networks: frames or flows, a given time apart, up to the newest."""

from __future__ import annotations

import math
from collections import deque
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from edge.inputs.pace import MIN_INTERVAL_SHARE
from edge.inputs.spaced import spaced
from edge.motion.method import MotionSpec
from edge.motion.preprocessor import Step
from edge.motion.quantise import FlowBytes
from edge.motion.stack import stack_flows
from edge.spec import Spec
from edge.video.frames import Normalisation, rgb_tensor


class _ClipInput(Spec):
    """frames: T. step_interval_s: between them, a multiple of the training interval; of a camera
    with another rate, the nearest frames are taken."""

    frames: int = Field(ge=2, le=64)
    step_interval_s: float = Field(ge=1e-3, le=10)

    @model_validator(mode="after")
    def _steps_are_frames(self) -> _ClipInput:
        if self.step_interval_s < self.interval_s:  # type: ignore[attr-defined]
            raise ValueError("step_interval_s is shorter than interval_s")
        return self

    @property
    def span(self) -> int:
        """How many frames lie between the first and the last one in training."""
        steps = (self.frames - 1) * self.step_interval_s
        return round(steps / self.interval_s)  # type: ignore[attr-defined]


class RGBClipInput(_ClipInput):
    """The newest frame and T - 1 before it, (3, T, H, W). interval_s: between frames in training;
    frames of a much faster camera are skipped."""

    kind: Literal["rgb_clip"]
    interval_s: float = Field(ge=1e-3, le=1)

    channels: ClassVar[int] = 3
    means: ClassVar[int] = 3
    motion: ClassVar[None] = None

    @property
    def history(self) -> int:
        return self.span


class FlowClipInput(_ClipInput):
    """The newest flow and T - 1 before it, u and v, (2, T, H, W). motion: the method of the
    flows."""

    kind: Literal["flow_clip"]
    motion: MotionSpec

    channels: ClassVar[int] = 2
    means: ClassVar[int] = 1

    @property
    def interval_s(self) -> float:
        return float(self.motion.interval_s)  # type: ignore[attr-defined]

    @property
    def history(self) -> int:
        return self.span + 1


class _Ring:
    """What was made of the last frames, with their times; enough of them for the fastest camera."""

    def __init__(self, spec: RGBClipInput | FlowClipInput) -> None:
        self._spec = spec
        size = math.ceil(spec.span / MIN_INTERVAL_SHARE) + 1
        self.kept: deque[tuple[float, NDArray[np.generic]]] = deque(maxlen=size)

    def chosen(self) -> list[NDArray[np.generic]]:
        """T of them, oldest first, as far apart as in training."""
        times_s = [time_s for time_s, _ in self.kept]
        chosen = spaced(times_s, self._spec.frames, self._spec.step_interval_s)
        return [self.kept[index][1] for index in chosen]


class RGBClipBuilder:
    """See edge.inputs.builder.InputBuilder. Each frame is converted once, when it comes."""

    def __init__(
        self, spec: RGBClipInput, size_hw: tuple[int, int], normalisation: Normalisation
    ) -> None:
        self.shape = (spec.channels, spec.frames, *size_hw)
        self._normalisation, self._ring = normalisation, _Ring(spec)

    @property
    def ready(self) -> bool:
        return bool(self._ring.kept)

    def push(self, step: Step) -> None:
        picture = rgb_tensor(step.frame, self._normalisation)  # (3, H, W)
        self._ring.kept.append((step.frame.time_s, picture))

    def clear(self) -> None:
        self._ring.kept.clear()

    def fill(self, out: NDArray[np.float32]) -> None:
        for index, picture in enumerate(self._ring.chosen()):
            out[:, index] = picture  # (3, H, W)


class FlowClipBuilder:
    """See edge.inputs.builder.InputBuilder."""

    def __init__(
        self, spec: FlowClipInput, size_hw: tuple[int, int], normalisation: Normalisation
    ) -> None:
        self.shape = (spec.channels, spec.frames, *size_hw)
        self._motion, self._ring = spec.motion, _Ring(spec)

    @property
    def ready(self) -> bool:
        return bool(self._ring.kept)

    def push(self, step: Step) -> None:
        if step.flows:
            self._ring.kept.append((step.frame.time_s, step.flows[self._motion]))

    def clear(self) -> None:
        self._ring.kept.clear()

    def fill(self, out: NDArray[np.uint8]) -> None:
        flows: list[FlowBytes] = self._ring.chosen()  # type: ignore[assignment]
        stack_flows(flows, out.reshape(-1, *out.shape[2:]))  # (2 T, H, W), all u and then all v
