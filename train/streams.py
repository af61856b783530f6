"""The streams that `twostream train` knows by name, what the network of each is fed, and the view
that it is given."""

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


# (flows a stack, the method that measures them) -> the spec of an input (see edge/inputs)
STREAMS: dict[str, Callable[[int, Any], Any]] = {"spatial": _rgb, "temporal": _flow}
FUSED = "fused"  # what the scores of all streams together are called in reports


def training_view(size_hw: tuple[int, int]) -> Geometry:
    """What new networks see of a picture: 4:3, the shape of UCF101, brought to `size_hw`."""
    return Geometry(aspect=(4, 3), size_hw=size_hw, interpolation="area")
