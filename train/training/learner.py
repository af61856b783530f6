"""What a training run changes at each step: the network, its moving average and its optimiser."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.optim.swa_utils import AveragedModel

from edge.bundle.network import NetworkSpec
from train.models.backbone import freeze_batch_norm, freeze_stages, split_parameters, to_device
from train.models.build import initial_network
from train.models.checkpoint import load_checkpoint
from train.models.qat import round_layers
from train.recipe import Recipe
from train.training.distributed import Ranks
from train.training.motion_network import initial_motion
from train.training.optim import build_optimiser, mixed_type, moving_average

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Learner:
    """average: the moving average of the network's weights; None if the recipe has none.

    frozen: modules that stay in evaluation mode. source: of the initial weights, as text.
    """

    network: nn.Module
    average: AveragedModel | None
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    frozen: tuple[nn.Module, ...]
    source: str

    @property
    def result(self) -> nn.Module:
        """The network that is validated and saved: the moving average, if there is one."""
        return self.network if self.average is None else self.average.module  # type: ignore[return-value]


def build_learner(spec: NetworkSpec, recipe: Recipe, ranks: Ranks) -> Learner:
    """A network with its initial weights, and its optimiser, on the device of this process.

    Raises CheckpointError if the weights cannot be loaded or do not fit.
    """
    torch.manual_seed(recipe.seed)
    options, device = recipe.network, ranks.device
    if options.quantise:
        network, _, _ = load_checkpoint(Path(options.weights))
        source = f"checkpoint {Path(options.weights).name}, with INT8 rounding"
        logger.info("%d layers round their inputs and weights", round_layers(network))
    else:
        motion = initial_motion(recipe)
        network, source = initial_network(spec, options, options.dropout, motion)
    network = to_device(network, device)
    if ranks.world > 1 and device.type == "cuda":
        # before the optimiser, since it creates new layers; timm's, since torch's loses the
        # activations of timm's layers
        network = convert_sync_batchnorm(network)
    frozen = freeze_stages(network, options.freeze) + freeze_batch_norm(network, options.batch_norm)
    parameters = split_parameters(network)
    optimiser = build_optimiser(parameters, recipe.optimiser, recipe.motion.rate_factor)
    decay = recipe.optimiser.average
    average = moving_average(network, decay) if decay else None
    scaled = recipe.optimiser.precision == "mixed" and mixed_type(device) == torch.float16
    scaler = torch.amp.GradScaler(device.type, enabled=scaled)
    return Learner(network, average, optimiser, scaler, tuple(frozen), source)
