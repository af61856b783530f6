"""One RGB frame as a network input."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge.inputs.rgb_online import RGBOnlineInput
from edge.motion.preprocessor import Step
from edge.spec import Spec
from edge.video.frames import Frame, Normalisation, rgb_tensor


class RGBInput(Spec):
    """The newest frame. frames: how many it takes. interval_s: between frames in training; frames
    of a much faster camera are skipped."""

    kind: Literal["rgb"]
    frames: Literal[1]
    interval_s: float = Field(ge=1e-3, le=1)

    channels: ClassVar[int] = 3
    means: ClassVar[int] = 3  # number of means in its normalisation
    history: ClassVar[int] = 0  # frames that it needs before the newest
    motion: ClassVar[None] = None


class RGBBuilder:
    """See edge.inputs.builder.InputBuilder."""

    def __init__(
        self,
        spec: RGBInput | RGBOnlineInput,
        size_hw: tuple[int, int],
        normalisation: Normalisation,
    ) -> None:
        self.shape = (spec.channels, *size_hw)
        self._normalisation = normalisation
        self._frame: Frame | None = None

    @property
    def ready(self) -> bool:
        return self._frame is not None

    def push(self, step: Step) -> None:
        self._frame = step.frame

    def clear(self) -> None:
        self._frame = None

    def fill(self, out: NDArray[np.float32]) -> None:
        assert self._frame is not None
        rgb_tensor(self._frame, self._normalisation, out)  # (3, H, W)
