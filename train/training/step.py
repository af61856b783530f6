"""One optimiser step: forward, loss, backward, update."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from edge.errors import TrainingError
from train.recipe import Recipe
from train.training.dataset import Item
from train.training.distributed import Ranks
from train.training.optim import consensus_loss, mix, rate_factor, set_rate, smooth
from train.training.resume import Parts

# What torch's allocators say. The CPU's raises a plain RuntimeError.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class Stepper:
    """Takes steps on a network, alone or as one of several processes that share each batch.

    kept_in_eval: modules that are never in training mode. weights: (C,) of the classes.
    """

    def __init__(
        self,
        parts: Parts,
        kept_in_eval: list[nn.Module],
        recipe: Recipe,
        weights: torch.Tensor,
        ranks: Ranks,
    ) -> None:
        self.parts, self.kept_in_eval, self.recipe = parts, kept_in_eval, recipe
        self.ranks, self.weights = ranks, weights.to(ranks.device)
        mixed = recipe.optimiser.precision == "mixed"
        self.short = mixed_type(ranks.device) if mixed else None
        self.model = parts.network if ranks.world == 1 else _shared(parts.network, ranks)

    def training_mode(self) -> None:
        self.model.train()
        for module in self.kept_in_eval:
            module.eval()

    def __call__(self, item: Item, epoch: int, step: int, steps: int) -> float:
        """Learn from a batch of samples, (B, K, channels, H, W) and (B, C), step `step` of `steps`
        in the epoch. Returns the loss, averaged over all processes; where it is not a number, the
        weights stay as they were.

        Raises TrainingError when the batch does not fit the memory.
        """
        recipe, parts = self.recipe, self.parts
        # whatever is drawn now depends on the position alone, so a resumed run draws the same
        draws = np.random.SeedSequence((recipe.seed, epoch, step, self.ranks.rank, 2))
        torch.manual_seed(int(draws.generate_state(1)[0]))
        set_rate(parts.optimiser, rate_factor(recipe.schedule, (epoch - 1) * steps + step, steps))
        parts.optimiser.zero_grad(set_to_none=True)
        with self._enough_memory():
            loss = self._loss(item, np.random.default_rng(draws))
            mean = float(self.ranks.mean(loss.detach()))
            if not np.isfinite(mean):
                return mean
            parts.scaler.scale(loss).backward()
            if recipe.optimiser.clip_norm:
                parts.scaler.unscale_(parts.optimiser)
                nn.utils.clip_grad_norm_(parts.network.parameters(), recipe.optimiser.clip_norm)
            parts.scaler.step(parts.optimiser)
            parts.scaler.update()
        if parts.mean is not None:
            parts.mean.update_parameters(parts.network)
        return mean

    def _loss(self, item: Item, rng: np.random.Generator) -> torch.Tensor:
        inputs, targets = item
        segments, device = inputs.shape[1], self.ranks.device
        inputs = inputs.to(device, non_blocking=True)  # (B, K, channels, H, W)
        targets = smooth(targets.to(device, non_blocking=True), self.recipe.loss.smoothing)
        alpha = self.recipe.loss.mixup
        if alpha:
            inputs, targets = mix(inputs, targets, float(rng.beta(alpha, alpha)))
        inputs = inputs.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, self.short, enabled=self.short is not None):
            logits = self.model(inputs)  # (B K, C)
        return consensus_loss(logits, targets, segments, self.weights)

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


def mixed_type(device: torch.device) -> torch.dtype | None:
    """The 16-bit type for mixed precision on a device, or None if there is no fast one.

    A CPU without bfloat16 instructions takes it too, and is ten times slower than in float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    quick = re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", flags)
    return torch.bfloat16 if quick else None


def _shared(network: nn.Module, ranks: Ranks) -> nn.Module:
    """The network as one of several that average their gradients. On GPUs batch norm sees the
    whole batch; on CPUs, for which torch has no such layer, it sees each process's own part.
    """
    if ranks.device.type == "cuda":
        return DistributedDataParallel(network, device_ids=[ranks.device.index])
    return DistributedDataParallel(network)
