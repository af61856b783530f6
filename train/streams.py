"""The streams that `twostream train` can train: their inputs, and the view of the frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field

from edge.inputs.flow_stack import FlowInput
from edge.inputs.luma_stack import LumaStackInput
from edge.inputs.rgb import RGBInput
from edge.spec import Spec
from edge.video.frames import Geometry


class LearnedMotion(Spec):
    """Motion that the temporal network finds itself, by a network of motion before it. network: its
    name, of SIZES in train/models/motionnet.py; checkpoint: its file. frames: that it sees;
    interval_s: between them."""

    method: Literal["network"]
    network: str
    checkpoint: str
    frames: int = Field(ge=2)
    interval_s: float


def _rgb(stack: int, motion: Any) -> RGBInput:
    return RGBInput(kind="rgb", frames=1, interval_s=motion.interval_s)


def _motion(stack: int, motion: Any) -> FlowInput | LumaStackInput:
    if isinstance(motion, LearnedMotion):
        return LumaStackInput(kind="luma_stack", frames=stack + 1, interval_s=motion.interval_s)
    return FlowInput(kind="flow", stack=stack, layout="grouped", motion=motion)


# (flows per stack, spec of the method that measures them, or LearnedMotion) -> spec of the input
# (see edge/inputs)
STREAMS: dict[str, Callable[[int, Any], Any]] = {"spatial": _rgb, "temporal": _motion}
FUSED = "fused"  # the name of the fused scores in reports


def training_view(size_hw: tuple[int, int]) -> Geometry:
    """The view of new networks: the 4:3 centre of the frame (the shape of UCF101's), resized to
    `size_hw`.
    """
    return Geometry(aspect=(4, 3), size_hw=size_hw, interpolation="area")
