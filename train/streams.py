"""The streams that `twostream train` can train: their inputs, and the view of the frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge.inputs.flow_stack import FlowInput
from edge.inputs.rgb import RGBInput
from edge.video.frames import Geometry


def _rgb(stack: int, motion: Any) -> RGBInput:
    return RGBInput(kind="rgb", frames=1, interval_s=motion.interval_s)


def _flow(stack: int, motion: Any) -> FlowInput:
    return FlowInput(kind="flow", stack=stack, layout="grouped", motion=motion)


# (flows per stack, spec of the method that measures them) -> spec of the input (see edge/inputs)
STREAMS: dict[str, Callable[[int, Any], Any]] = {"spatial": _rgb, "temporal": _flow}
FUSED = "fused"  # the name of the fused scores in reports


def training_view(size_hw: tuple[int, int]) -> Geometry:
    """The view of new networks: the 4:3 centre of the frame (the shape of UCF101's), resized to
    `size_hw`.
    """
    return Geometry(aspect=(4, 3), size_hw=size_hw, interpolation="area")
