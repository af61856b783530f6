"""One optimiser step: forward, loss, backward, update."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from edge.errors import TrainingError
from train.models.backbone import to_device
from train.recipe import Recipe
from train.training.dataset import Item
from train.training.distributed import Ranks
from train.training.learner import Learner
from train.training.optim import (
    batch_of,
    consensus_loss,
    distillation_loss,
    mix,
    mixed_type,
    rate_factor,
    set_rate,
    smooth,
)

# Messages of torch's allocators. That of the CPU raises a plain RuntimeError.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class Stepper:
    """Takes optimiser steps, alone or as one of several processes that share each batch.

    weights: of the classes in the loss, (C,).
    """

    def __init__(
        self,
        learner: Learner,
        recipe: Recipe,
        weights: torch.Tensor,
        ranks: Ranks,
        teacher: nn.Module | None = None,
    ) -> None:
        """teacher: a network in evaluation mode that teaches by its scores."""
        self.learner, self.recipe = learner, recipe
        self.ranks, self.weights = ranks, weights.to(ranks.device)
        mixed = recipe.optimiser.precision == "mixed"
        self.autocast_type = mixed_type(ranks.device) if mixed else None
        self.teacher = teacher
        if teacher is not None:
            to_device(teacher, ranks.device)
        network = learner.network
        self.model = network if ranks.world == 1 else _data_parallel(network, ranks)

    def training_mode(self) -> None:
        """Set the network to training mode, but for its frozen modules."""
        self.model.train()
        for module in self.learner.frozen:
            module.eval()

    def __call__(self, item: Item, epoch: int, step: int, steps: int) -> float:
        """Take a step on this process's share of a batch: inputs (B, K, channels, H, W), targets
        (B, C) and the teacher's inputs. step: of `steps` in the epoch, from 0.

        Returns the loss, averaged over all processes. If it is not finite, the weights stay
        unchanged. Raises TrainingError if the batch does not fit into memory.
        """
        recipe, learner = self.recipe, self.learner
        # seeded by the position in the run, so that a resumed run draws the same
        draws = np.random.SeedSequence((recipe.seed, epoch, step, self.ranks.rank, 2))
        torch.manual_seed(int(draws.generate_state(1)[0]))
        set_rate(learner.optimiser, rate_factor(recipe.schedule, (epoch - 1) * steps + step, steps))
        learner.optimiser.zero_grad(set_to_none=True)
        with self._enough_memory():
            loss = self._loss(item, np.random.default_rng(draws))
            mean = float(self.ranks.mean(loss.detach()))
            if not np.isfinite(mean):
                return mean
            learner.scaler.scale(loss).backward()
            if recipe.optimiser.clip_norm:
                learner.scaler.unscale_(learner.optimiser)
                nn.utils.clip_grad_norm_(learner.network.parameters(), recipe.optimiser.clip_norm)
            learner.scaler.step(learner.optimiser)
            learner.scaler.update()
        if learner.average is not None:
            learner.average.update_parameters(learner.network)
        return mean

    def _loss(self, item: Item, rng: np.random.Generator) -> torch.Tensor:
        inputs, targets, shown = item
        segments, device = inputs.shape[1], self.ranks.device
        inputs = inputs.to(device, non_blocking=True)  # (B, K, channels, H, W)
        shown = shown.to(device, non_blocking=True)
        targets = smooth(targets.to(device, non_blocking=True), self.recipe.loss.smoothing)
        alpha = self.recipe.loss.mixup
        if alpha:
            share = float(rng.beta(alpha, alpha))
            shown, _ = mix(shown, targets, share)
            inputs, targets = mix(inputs, targets, share)
        logits = self._logits(self.model, inputs)
        loss = consensus_loss(logits, targets, segments, self.weights)
        if self.teacher is None:
            return loss
        with torch.no_grad():
            taught = self._logits(self.teacher, shown)
        recipe = self.recipe.teacher
        divergence = distillation_loss(logits, taught, segments, recipe.temperature)
        return (1 - recipe.weight) * loss + recipe.weight * divergence

    def _logits(self, network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs (B, K, ...) -> logits (B K, C)."""
        inputs = batch_of(inputs, inputs.device)
        with torch.autocast(
            inputs.device.type, self.autocast_type, enabled=self.autocast_type is not None
        ):
            return network(inputs)  # type: ignore[no-any-return]

    @contextmanager
    def _enough_memory(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            if not any(words in str(error) for words in _NO_MEMORY):
                raise
            batch = self.recipe.optimiser.batch
            smaller = max(batch // 2 // self.ranks.world, 1) * self.ranks.world
            hint = f"try --set optimiser.batch={smaller}"
            if smaller == batch:
                hint = "take a smaller backbone or fewer sampling.segments"
            raise TrainingError(
                f"a batch of {batch} does not fit the memory of {self.ranks.device}; {hint}"
            ) from None


def _data_parallel(network: nn.Module, ranks: Ranks) -> nn.Module:
    """The network with its gradients averaged over all processes.

    Batch norm takes its statistics over the whole batch on GPUs. On CPUs torch has no synchronised
    batch norm, so each process takes them over its share.
    """
    if ranks.device.type == "cuda":
        return DistributedDataParallel(network, device_ids=[ranks.device.index])
    return DistributedDataParallel(network)
