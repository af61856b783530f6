"""A stack of the last L flows as a network input."""

from __future__ import annotations

from collections import deque
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge.motion.method import MotionSpec
from edge.motion.preprocessor import Step
from edge.motion.quantise import FlowBytes
from edge.motion.stack import stack_flows
from edge.spec import Spec
from edge.video.frames import Normalisation


class FlowInput(Spec):
    """stack: L. layout: grouped, all u and then all v. motion: the method of the flows."""

    kind: Literal["flow"]
    stack: int = Field(ge=1, le=64)
    layout: Literal["grouped"]
    motion: MotionSpec

    means: ClassVar[int] = 1

    @property
    def channels(self) -> int:
        return 2 * self.stack

    @property
    def history(self) -> int:
        return self.stack

    @property
    def interval_s(self) -> float:
        return float(self.motion.interval_s)  # type: ignore[attr-defined]


class FlowStackBuilder:
    """See edge.inputs.builder.InputBuilder."""

    def __init__(
        self, spec: FlowInput, size_hw: tuple[int, int], normalisation: Normalisation
    ) -> None:
        self.shape = (spec.channels, *size_hw)
        self._motion = spec.motion
        self._flows: deque[FlowBytes] = deque(maxlen=spec.stack)

    @property
    def ready(self) -> bool:
        return len(self._flows) == self._flows.maxlen

    def push(self, step: Step) -> None:
        if step.flows:
            self._flows.append(step.flows[self._motion])

    def clear(self) -> None:
        self._flows.clear()

    def fill(self, out: NDArray[np.uint8]) -> None:
        stack_flows(self._flows, out)  # (2L, H, W)
