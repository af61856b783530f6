"""One RGB frame as the input of a network that keeps features of earlier frames as its state."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from edge.inputs.state import StateName, StateShape, check_state_size
from edge.spec import Spec


class RGBOnlineInput(Spec):
    """The newest frame, for a network with state.

    frames: how many steps of the state its training saw in a row. interval_s: between frames in
    training; frames of a much faster camera are skipped. step_interval_s: between steps. The state
    moves on with a frame that comes this long after the last that moved it; frames in between see
    the state of that last step, and leave it as it is. state: shapes of its tensors, by name; each
    is an input and an output of the network (see edge/bundle/tensor_names.py), and is zero at first
    and after a gap.
    """

    kind: Literal["rgb_online"]
    frames: int = Field(ge=2, le=64)
    interval_s: float = Field(ge=1e-3, le=1)
    step_interval_s: float = Field(ge=1e-3, le=60)
    state: dict[StateName, StateShape] = Field(min_length=1, max_length=128)

    channels: ClassVar[int] = 3
    means: ClassVar[int] = 3
    history: ClassVar[int] = 0  # a state of zeros will do
    motion: ClassVar[None] = None

    @model_validator(mode="after")
    def _fits(self) -> RGBOnlineInput:
        check_state_size(self.state)
        if self.step_interval_s < self.interval_s:
            raise ValueError("step_interval_s is shorter than interval_s")
        return self
