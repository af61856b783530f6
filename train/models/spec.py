"""The specification of a new network, from its backbone and recipe; checkpoints hold it."""

from __future__ import annotations

import logging
from typing import Any

from edge.bundle.network import NetworkSpec
from edge.errors import CheckpointError
from edge.video.frames import Normalisation
from train.data.clips import Clip
from train.models.weights import normalisation_of, pretrained_config
from train.streams import STREAMS, training_view

logger = logging.getLogger(__name__)

# The byte of no motion, 128, becomes exactly 0; the deviation is that of ImageNet's channels.
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
) -> NetworkSpec:
    """The specification of a new network: a 4:3 view at the backbone's input size, with the
    normalisation of its initial weights.

    stream: one of STREAMS. motion: the spec of the method that measures flow. train, validation:
    clips, whose names are recorded. weights: see train/models/weights.py. size_px: side of the
    input; 0 is the backbone's default. stack: flows per stack. Raises CheckpointError if the
    backbone is unknown or does not take inputs of that size.
    """
    input_spec = STREAMS[stream](stack, motion)
    is_rgb = input_spec.motion is None
    return NetworkSpec(
        stream=stream,
        backbone=backbone,
        classes=classes,
        geometry=training_view(input_size(backbone, size_px)),
        input=input_spec,
        normalisation=normalisation_of(backbone, weights) if is_rgb else FLOW_NORMALISATION,
        split=split,
        train_clips=tuple(clip.name for clip in train),
        validation_clips=tuple(clip.name for clip in validation),
    )


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
