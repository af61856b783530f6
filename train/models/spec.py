"""The input of a new network, from its backbone's configuration, stored in the checkpoint."""

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

# No motion is byte 128, and becomes exactly 0; the spread is that of ImageNet's channels.
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
    """The specification of a new network: a 4:3 view at the backbone's own size (or `size_px`),
    normalised as its weights want it.

    stream: one of STREAMS; motion: how flow is measured; stack: flows a stack. Raises
    CheckpointError if the backbone is unknown or cannot be fed at that size.
    """
    fed = STREAMS[stream](stack, motion)
    pictures = fed.motion is None
    return NetworkSpec(
        stream=stream,
        backbone=backbone,
        classes=classes,
        geometry=training_view(input_size(backbone, size_px)),
        input=fed,
        normalisation=normalisation_of(backbone, weights) if pictures else FLOW_NORMALISATION,
        split=split,
        train_clips=tuple(clip.name for clip in train),
        validation_clips=tuple(clip.name for clip in validation),
    )


def input_size(backbone: str, size_px: int) -> tuple[int, int]:
    """(H, W) of a backbone's input: its own, made even, or `size_px` where that is not 0."""
    config = pretrained_config(backbone)
    own = int(config["input_size"][1])
    if size_px and size_px != own and config.get("fixed_input_size"):
        raise CheckpointError(
            f"backbone {backbone} takes {own} x {own} only; leave network.size_px 0"
        )
    size = size_px or own
    if size % 2:
        even = size + 1
        logger.warning(
            "%s: %d x %d becomes %d x %d, since chroma has half",
            backbone,
            size,
            size,
            even,
            even,
        )
        size += 1
    return size, size
