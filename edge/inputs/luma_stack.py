"""A stack of the luma of the last frames as a network input, for networks that find the motion
themselves."""

from __future__ import annotations

from collections import deque
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge.motion.preprocessor import Step
from edge.spec import Spec
from edge.video.frames import Normalisation, Plane


class LumaStackInput(Spec):
    """frames: how many it takes, L + 1 for L flows. interval_s: between frames in training; frames
    of a much faster camera are skipped, and those of a slower one are not brought back to it."""

    kind: Literal["luma_stack"]
    frames: int = Field(ge=2, le=65)
    interval_s: float = Field(ge=1e-3, le=1)

    means: ClassVar[int] = 1
    motion: ClassVar[None] = None

    @property
    def channels(self) -> int:
        return self.frames

    @property
    def history(self) -> int:
        return self.frames - 1


class LumaStackBuilder:
    """See edge.inputs.builder.InputBuilder."""

    def __init__(
        self, spec: LumaStackInput, size_hw: tuple[int, int], normalisation: Normalisation
    ) -> None:
        self.shape = (spec.channels, *size_hw)
        self._planes: deque[Plane] = deque(maxlen=spec.frames)

    @property
    def ready(self) -> bool:
        return len(self._planes) == self._planes.maxlen

    def push(self, step: Step) -> None:
        self._planes.append(step.frame.y)

    def clear(self) -> None:
        self._planes.clear()

    def fill(self, out: NDArray[np.uint8]) -> None:
        np.stack(self._planes, out=out)  # (L + 1, H, W), oldest first
