"""Optimiser, learning rate schedule, moving average of the weights, and the loss."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from train.recipe import OptimiserRecipe, ScheduleRecipe


def build_optimiser(
    body: list[nn.Parameter], head: list[nn.Parameter], recipe: OptimiserRecipe
) -> torch.optim.Optimizer:
    """An optimiser with two groups, backbone and new classifier; rates are set before each step."""
    groups = [
        {"params": [p for p in body if p.requires_grad], "peak": recipe.rate},
        {"params": [p for p in head if p.requires_grad], "peak": recipe.rate * recipe.head_factor},
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
    """The share of the peak rate at step `step` (from 0) of the run. steps: per epoch."""
    warmup = round(schedule.warmup_epochs * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule.kind == "step":
        return schedule.factor ** sum(step >= epoch * steps for epoch in schedule.steps)
    done = (step - warmup) / max(schedule.epochs * steps - warmup, 1)
    return (1 + math.cos(math.pi * done)) / 2


def running_mean(network: nn.Module, decay: float) -> AveragedModel:
    """A second network whose weights and buffers follow the first one's.

    While there have been few steps it follows faster, so that it forgets where it began.
    """

    @torch.no_grad()
    def follow(means: list[torch.Tensor], values: list[torch.Tensor], seen: torch.Tensor) -> None:
        steps = float(seen)
        share = 1 - min(decay, (1 + steps) / (10 + steps))
        for mean, value in zip(means, values, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, share)
            else:
                mean.copy_(value)

    return AveragedModel(network, multi_avg_fn=follow, use_buffers=True)  # type: ignore[arg-type]


def class_weights(counts: list[int], kind: str) -> torch.Tensor:
    """(C,) weights with a mean of 1 over the samples, from the number of samples of each class."""
    if kind == "none":
        return torch.ones(len(counts))
    each = torch.tensor([max(count, 1) for count in counts], dtype=torch.float32)
    return each.sum() / (len(counts) * each)


def smooth(targets: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Targets (B, C) moved towards equal scores (Szegedy et al., 2016)."""
    return targets * (1 - smoothing) + smoothing / targets.shape[1]


def mix(
    inputs: torch.Tensor, targets: torch.Tensor, share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """`share` of each sample, and for the rest the one opposite it in the batch (mixup, Zhang et
    al., 2018).
    """
    return (
        share * inputs + (1 - share) * inputs.flip(0),
        share * targets + (1 - share) * targets.flip(0),
    )


def consensus_loss(
    logits: torch.Tensor, targets: torch.Tensor, segments: int, weights: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of logits (B K, C), averaged over the K segments of a sample, with targets
    (B, C): the mean over B, each sample weighed by its classes, so that the means of the parts of
    a batch average to that of the whole.
    """
    logits = logits.float().unflatten(0, (-1, segments)).mean(dim=1)  # (B, C)
    losses = nn.functional.cross_entropy(logits, targets, reduction="none")  # (B,)
    return (losses * (targets @ weights)).mean()
