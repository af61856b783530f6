"""Optimiser, learning rate schedule, moving average of the weights, precision, and the loss."""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from train.models.backbone import Parameters
from train.recipe import OptimiserRecipe, ScheduleRecipe


def build_optimiser(
    parameters: Parameters, recipe: OptimiserRecipe, motion_factor: float
) -> torch.optim.Optimizer:
    """An optimiser with a group of parameters for each part of the network.

    motion_factor: the learning rate of a network of motion is so many times that of the backbone.
    Each group has its peak learning rate under "peak"; `set_rate` sets the rate before each step.
    """
    factors = [(parameters.body, 1.0), (parameters.head, recipe.head_factor)]
    if parameters.motion:
        factors.append((parameters.motion, motion_factor))
    groups = [
        {"params": [p for p in part if p.requires_grad], "peak": recipe.rate * factor}
        for part, factor in factors
    ]
    if recipe.kind == "sgd":
        return torch.optim.SGD(
            groups, lr=recipe.rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
    kind = torch.optim.AdamW if recipe.kind == "adamw" else torch.optim.Adam
    betas = (recipe.momentum, 0.999)
    return kind(groups, lr=recipe.rate, betas=betas, weight_decay=recipe.weight_decay)


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set the rate of every group to its peak rate times `factor`."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * factor


def rate_factor(schedule: ScheduleRecipe, step: int, steps: int) -> float:
    """The learning rate as a share of its peak, 0 to 1. step: of the run, from 0; steps: per
    epoch.
    """
    warmup = round(schedule.warmup_epochs * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule.kind == "step":
        return schedule.factor ** sum(step >= epoch * steps for epoch in schedule.steps)
    done = (step - warmup) / max(schedule.epochs * steps - warmup, 1)
    return (1 + math.cos(math.pi * done)) / 2


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of the network whose weights and buffers are exponential moving averages of its own.

    decay: per step, 0 to 1. In the first steps the decay is smaller, so that the initial weights
    lose their influence quickly.
    """

    @torch.no_grad()
    def update(
        averages: list[torch.Tensor], values: list[torch.Tensor], updates: torch.Tensor
    ) -> None:
        steps = float(updates)
        share = 1 - min(decay, (1 + steps) / (10 + steps))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, share)
            else:
                average.copy_(value)

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)  # type: ignore[arg-type]


def mixed_type(device: torch.device) -> torch.dtype | None:
    """The 16-bit type for mixed precision on a device, or None if float32 is faster there.

    torch accepts bfloat16 on CPUs without instructions for it, and is then ten times slower than
    in float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    flags = (
        Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    )
    has_bfloat16 = re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", flags)
    return torch.bfloat16 if has_bfloat16 else None


def class_weights(counts: list[int], kind: str) -> torch.Tensor:
    """The weight of each class in the loss, (C,), with a mean of 1 over the samples.

    counts: samples of each class. kind: "none" or "balanced" (see LossRecipe).
    """
    if kind == "none":
        return torch.ones(len(counts))
    sizes = torch.tensor([max(count, 1) for count in counts], dtype=torch.float32)
    return sizes.sum() / (len(counts) * sizes)


def smooth(targets: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Label smoothing (Szegedy et al., 2016) of targets (B, C): a share of `smoothing` is spread
    evenly over the classes.
    """
    return targets * (1 - smoothing) + smoothing / targets.shape[1]


def batch_of(inputs: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Samples of K inputs each, (B, K, ...), as one batch (B K, ...) on a device; pictures with
    their channels last."""
    flat = inputs.flatten(0, 1).to(device, non_blocking=True)
    return flat.contiguous(memory_format=torch.channels_last) if flat.ndim == 4 else flat


def mix(
    inputs: torch.Tensor, targets: torch.Tensor, share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup (Zhang et al., 2018): each sample b of inputs (B, ...) and targets (B, C) becomes
    `share` of itself plus 1 - `share` of sample B - 1 - b.
    """
    return (
        share * inputs + (1 - share) * inputs.flip(0),
        share * targets + (1 - share) * targets.flip(0),
    )


def distillation_loss(
    logits: torch.Tensor, taught: torch.Tensor, segments: int, temperature: float
) -> torch.Tensor:
    """How far scores are from a teacher's (Hinton et al., 2015): the Kullback-Leibler divergence of
    the softmax of both logits (B K, C), averaged over the K segments and divided by `temperature`.

    It is multiplied by temperature**2, so that its gradients are as large as those of the labels.
    """
    ours, theirs = (
        nn.functional.log_softmax(
            each.float().unflatten(0, (-1, segments)).mean(dim=1) / temperature, dim=1
        )
        for each in (logits, taught)
    )
    divergence = nn.functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def consensus_loss(
    logits: torch.Tensor, targets: torch.Tensor, segments: int, weights: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of the segmental consensus (Wang et al., 2016): logits (B K, C) are averaged
    over the K segments of each sample.

    targets: (B, C), each row with a sum of 1. weights: (C,) of the classes. Returns the mean over
    B of weighted losses. It is not divided by the sum of the weights, so that the losses of equal
    parts of a batch, in several processes, average to the loss of the whole batch.
    """
    logits = logits.float().unflatten(0, (-1, segments)).mean(dim=1)  # (B, C)
    losses = nn.functional.cross_entropy(logits, targets, reduction="none")  # (B,)
    return (losses * (targets @ weights)).mean()
