"""One network from ImageNet to its best checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from edge.network import NetworkSpec
from train.cache import CachedClip
from train.checkpoint import write_checkpoint
from train.evaluate import score_clips, top1, torch_network
from train.models import pretrained_network
from train.samples import Snippets


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One run. `rate` is the peak learning rate of the backbone; the new classifier has 5 times it.

    snippets: moments drawn from each clip an epoch. freeze: blocks of the backbone that stay as
    ImageNet left them.
    """

    epochs: int
    batch: int
    snippets: int
    rate: float
    dropout: float
    freeze: int
    stack: int
    seed: int
    smoothing: float = 0.1
    weight_decay: float = 0.02
    validation_samples: int = 5


def train_network(
    train: list[CachedClip],
    validation: list[CachedClip],
    spec: NetworkSpec,
    config: TrainConfig,
    out: Path,
    report: Callable[[str], None],
) -> None:
    """Train and keep the epoch with the best log-likelihood on the validation clips: with few
    clips it is a steadier guide than their top-1, and it asks for scores that can be believed.

    Clips of other classes may be among `train`; those of `validation` all have one of the classes.
    """
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = pretrained_network(spec.channels, len(spec.classes), config.dropout)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    frozen = _freeze(network, config.freeze)
    snippets = Snippets(train, spec, config.stack, config.snippets, config.seed)
    loader = DataLoader(snippets, config.batch, shuffle=True, drop_last=True)
    optimiser, schedule = _optimiser(network, config, len(loader))
    history: list[dict[str, float]] = []
    best = -math.inf
    for epoch in range(1, config.epochs + 1):
        started = time.monotonic()
        snippets.epoch = epoch
        network.train()
        for module in frozen:
            module.eval()
        loss = _epoch(network, loader, optimiser, schedule, config.smoothing, device)
        network.eval()
        scores = score_clips(
            validation, spec, torch_network(network), config.stack, config.validation_samples
        )
        accuracy = top1(scores, validation, spec.classes)
        likelihood = _log_likelihood(scores, validation, spec.classes)
        history.append(
            {"epoch": epoch, "loss": loss, "top1": accuracy, "log_likelihood": likelihood}
        )
        better = likelihood > best
        if better:
            best = likelihood
            write_checkpoint(out, network, spec, history)
        report(
            f"epoch {epoch}/{config.epochs}  loss {loss:.3f}  validation top-1 {accuracy:.3f}  "
            f"log-likelihood {likelihood:.3f}  {time.monotonic() - started:.0f} s"
            + ("  kept" if better else "")
        )


def _freeze(network: nn.Module, blocks: int) -> list[nn.Module]:
    """Keep the stem and the first `blocks` stages as they are; returns the modules kept."""
    if blocks == 0:
        return []
    kept = [network.conv_stem, network.bn1, *list(network.blocks)[:blocks]]  # type: ignore[arg-type]
    for module in kept:
        module.requires_grad_(False)
    return kept  # type: ignore[return-value]


def _optimiser(
    network: nn.Module, config: TrainConfig, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    head = [p for n, p in network.named_parameters() if n.startswith("classifier.")]
    body = [
        p
        for n, p in network.named_parameters()
        if p.requires_grad and not n.startswith("classifier.")
    ]
    optimiser = torch.optim.AdamW(
        [{"params": body}, {"params": head}], weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=[config.rate, 5 * config.rate],
        total_steps=steps * config.epochs,
        pct_start=0.2,
    )
    return optimiser, schedule


def _epoch(
    network: nn.Module,
    loader: DataLoader[tuple[torch.Tensor, torch.Tensor]],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    smoothing: float,
    device: torch.device,
) -> float:
    total = 0.0
    for inputs, targets in loader:
        inputs = inputs.to(device, memory_format=torch.channels_last)  # (B, channels, H, W)
        targets = targets.to(device) * (1 - smoothing) + smoothing / targets.shape[1]  # (B, C)
        with torch.autocast(device.type, torch.bfloat16):
            logits = network(inputs)  # (B, C)
        loss = nn.functional.cross_entropy(logits.float(), targets)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        total += loss.item()
    return total / len(loader)


def _log_likelihood(scores: object, clips: list[CachedClip], classes: tuple[str, ...]) -> float:
    rows = [float(row[classes.index(c.clip.label)]) for row, c in zip(scores, clips, strict=True)]  # type: ignore[call-overload]
    return sum(math.log(max(score, 1e-9)) for score in rows) / len(rows)
