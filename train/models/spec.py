"""The specification of a new network, from its backbone and recipe; checkpoints hold it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch

from edge.bundle.network import NetworkSpec
from edge.errors import CheckpointError
from edge.inputs.builder import input_shape
from edge.inputs.clip import FlowClipInput, RGBClipInput
from edge.inputs.luma_stack import LumaStackInput
from edge.inputs.rgb import RGBInput
from edge.inputs.rgb_online import RGBOnlineInput
from edge.video.frames import Normalisation
from train.data.clips import Clip
from train.models.backbone import build_network
from train.models.hidden import JOINT
from train.models.inflate import inflate
from train.models.online import OnlineNetwork, shifted_channels
from train.models.video_resnet import VIDEO_BACKBONES
from train.models.weights import normalisation_of, pretrained_config
from train.streams import STREAMS, training_view

logger = logging.getLogger(__name__)

# The byte of no motion, 128, becomes exactly 0; the deviation is that of ImageNet's channels. Luma
# in stacks has the same.
FLOW_NORMALISATION = Normalisation(mean=(128 / 255,), std=(0.226,))


def network_spec(
    stream: str,
    classes: tuple[str, ...],
    motion: Any,
    split: int,
    train: list[Clip],
    validation: list[Clip],
    backbone: str = "efficientnet_lite0",
    weights: str = "imagenet",
    size_px: int = 0,
    stack: int = 10,
    over_time: OverTime | None = None,
) -> NetworkSpec:
    """The specification of a new network: a 4:3 view at the backbone's input size, with the
    normalisation of its initial weights.

    stream: one of STREAMS. motion: the spec of the method that measures flow, or of a network that
    finds it. train, validation: clips, whose names are recorded. weights: see
    train/models/weights.py. size_px: side of the input; 0 is the backbone's default. stack: flows
    per stack. over_time: None for networks of one picture or stack. Raises CheckpointError if the
    backbone is unknown or does not take inputs of that size.
    """
    size_hw = input_size(backbone, size_px)
    input_spec = STREAMS[stream](stack, motion)
    is_rgb, name = isinstance(input_spec, RGBInput), backbone
    if isinstance(input_spec, LumaStackInput):
        name = f"{motion.network}{JOINT}{backbone}"
    if over_time is not None:
        input_spec = _over_time(stream, over_time, input_spec, backbone, size_hw)
    elif backbone in VIDEO_BACKBONES:
        raise CheckpointError(
            f"backbone {backbone}: sees clips; set sampling.frames to how many frames, such as 8"
        )
    return NetworkSpec(
        stream=stream,
        backbone=name,
        classes=classes,
        geometry=training_view(size_hw),
        input=input_spec,
        normalisation=normalisation_of(backbone, weights) if is_rgb else FLOW_NORMALISATION,
        split=split,
        train_clips=tuple(clip.name for clip in train),
        validation_clips=tuple(clip.name for clip in validation),
    )


@dataclass(frozen=True, slots=True)
class OverTime:
    """What makes a network one over time, as in a recipe: see NetworkRecipe and SamplingRecipe."""

    shift: float
    frames: int
    stride: int


def _over_time(
    stream: str, options: OverTime, one: Any, backbone: str, size_hw: tuple[int, int]
) -> Any:
    """The input of a network over time. one: the input of its stream for a single picture."""
    if isinstance(one, LumaStackInput):
        raise CheckpointError(
            "motion network: sees stacks of pictures alone; set sampling.frames=1 and "
            "network.shift=0, or take another motion"
        )
    step_interval_s = round(options.stride * one.interval_s, 6)
    if not options.shift:
        clip = _clip_input(one, options.frames, step_interval_s)
        if backbone not in VIDEO_BACKBONES:
            _check_inflation(backbone, clip, size_hw)
        return clip
    if one.motion is not None:
        raise CheckpointError(f"network.shift: is for pictures, not for the {stream} stream")
    network = build_network(backbone, one.channels, 2, 0.0)
    shifted = OnlineNetwork(network, shifted_channels(network, options.shift))
    return RGBOnlineInput(
        kind="rgb_online",
        frames=options.frames,
        interval_s=one.interval_s,
        step_interval_s=step_interval_s,
        state=shifted.state_shapes(size_hw),
    )


def _clip_input(one: Any, frames: int, step_interval_s: float) -> Any:
    if one.motion is not None:
        return FlowClipInput(
            kind="flow_clip", frames=frames, step_interval_s=step_interval_s, motion=one.motion
        )
    return RGBClipInput(
        kind="rgb_clip",
        frames=frames,
        step_interval_s=step_interval_s,
        interval_s=one.interval_s,
    )


def _check_inflation(backbone: str, clip: Any, size_hw: tuple[int, int]) -> None:
    """Raises CheckpointError unless the backbone can be inflated."""
    network = inflate(build_network(backbone, clip.channels, 2, 0.0)).eval()
    try:
        with torch.inference_mode():
            network(torch.zeros(1, *input_shape(clip, size_hw)))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(f"backbone {backbone} cannot be inflated ({reason})") from None


def input_size(backbone: str, size_px: int) -> tuple[int, int]:
    """The input size (H, W) in px: `size_px`, or the backbone's default if that is 0; odd sizes are
    rounded up, since chroma has half the size. Raises CheckpointError if the backbone takes its
    default size only.
    """
    config = pretrained_config(backbone)
    default = int(config["input_size"][1])
    if size_px and size_px != default and config.get("fixed_input_size"):
        raise CheckpointError(
            f"backbone {backbone} takes {default} x {default} only; leave network.size_px 0"
        )
    size = size_px or default
    if size % 2:
        text = "%s: %d x %d becomes %d x %d, since chroma has half the size"
        logger.warning(text, backbone, size, size, size + 1, size + 1)
        size += 1
    return size, size
