"""The trained network of motion that a new temporal network is joined with."""

from __future__ import annotations

import logging
from pathlib import Path

from edge.bundle.network import NetworkSpec
from edge.errors import CheckpointError
from train.models.motion_checkpoint import load_motion, read_motion_spec
from train.models.motionnet import MotionNet
from train.recipe import Recipe

logger = logging.getLogger(__name__)


def initial_motion(recipe: Recipe) -> MotionNet | None:
    """The network of motion of a recipe; None if it names none. Raises CheckpointError if it cannot
    be loaded."""
    if not recipe.motion.checkpoint:
        return None
    return load_motion(Path(recipe.motion.checkpoint))[0]


def check_motion(checkpoint: Path, spec: NetworkSpec) -> None:
    """Say what a network of motion has seen of the new network's clips.

    Raises CheckpointError if it was trained on pictures of another view, or cannot be read.
    """
    motion = read_motion_spec(checkpoint)
    if motion.geometry != spec.geometry:
        height, width = motion.geometry.size_hw
        raise CheckpointError(
            f"{checkpoint}: was trained on pictures of {width} x {height} px, the new network sees "
            f"{spec.geometry.size_hw[1]} x {spec.geometry.size_hw[0]} px; set network.size_px to "
            "the same"
        )
    if seen := set(motion.train_clips) & set(spec.validation_clips):
        logger.warning(
            "%s: was trained, without labels, on %d of the %d validation clips",
            checkpoint,
            len(seen),
            len(spec.validation_clips),
        )
