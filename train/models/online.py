"""Online temporal shift: a 2D network that sees time at no cost (Lin et al., "TSM: Temporal Shift
Module for Efficient Video Understanding", 2019).

In each residual block a share of the channels, 1/8 in the paper, comes from the step before: the
block's skip connection keeps the present. A frame then sees as many steps back as there are blocks.
In training all steps of a snippet are in one batch, and channels are shifted along it; the first
step sees zeros. On a camera each block's shifted channels are kept for the next step, as the
network's state, which is zero at first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from timm.models import _efficientnet_blocks, resnet
from torch import nn

from edge.errors import CheckpointError

# The first layer of a residual block's branch.
_FIRST_LAYERS: dict[type, str] = {
    _efficientnet_blocks.InvertedResidual: "conv_pw",
    resnet.BasicBlock: "conv1",
    resnet.Bottleneck: "conv1",
}


class ShiftedLayer(nn.Module):
    """A layer whose first `channels` input channels are those of the step before."""

    def __init__(self, layer: nn.Module, channels: int) -> None:
        super().__init__()
        self.layer, self.channels = layer, channels
        self.steps = 1  # of each snippet in a batch
        self.before: torch.Tensor | None = None  # of a single step: the state, and the next one
        self.after: torch.Tensor | None = None

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(N steps, C, H, W), or (1, C, H, W) with a state."""
        now, rest = values[:, : self.channels], values[:, self.channels :]
        if self.before is None:
            rows = now.unflatten(0, (-1, self.steps))  # (N, steps, channels, H, W)
            before = torch.cat([torch.zeros_like(rows[:, :1]), rows[:, :-1]], dim=1).flatten(0, 1)
        else:
            before, self.after = self.before, now
        return self.layer(torch.cat([before, rest], dim=1))  # type: ignore[no-any-return]


class OnlineNetwork(nn.Module):
    """A backbone with shifted channels: snippets (N, T, 3, H, W) -> logits (N, C).

    In training mode the logits of all T steps are averaged (the consensus of temporal segment
    networks); in evaluation mode they are those of the last step, as on a camera.
    """

    def __init__(self, network: nn.Module, channels: Sequence[int]) -> None:
        """channels: shifted in each residual block, in order; as `shifted_channels` gives them."""
        super().__init__()
        self.network = network
        blocks = _residual_blocks(network)
        if len(blocks) != len(channels):
            raise CheckpointError(
                f"{len(channels)} layers are shifted, the backbone has {len(blocks)} to shift"
            )
        for block, count in zip(blocks, channels, strict=True):
            name = _FIRST_LAYERS[type(block)]
            setattr(block, name, ShiftedLayer(getattr(block, name), count))

    @property
    def layers(self) -> list[ShiftedLayer]:
        """The shifted layers, in order."""
        return [layer for layer in self.network.modules() if isinstance(layer, ShiftedLayer)]

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        logits = self.network(self.steps_of(batch)).unflatten(0, batch.shape[:2])  # (N, T, C)
        return logits.mean(dim=1) if self.training else logits[:, -1]

    def steps_of(self, batch: torch.Tensor) -> torch.Tensor:
        """Snippets (N, T, 3, H, W) as one batch (N T, 3, H, W), which the shift then knows."""
        for layer in self.layers:
            layer.steps = batch.shape[1]
        return batch.flatten(0, 1).contiguous(memory_format=torch.channels_last)

    def get_classifier(self) -> nn.Module:
        """As timm's networks have it."""
        return self.network.get_classifier()  # type: ignore[operator, no-any-return]

    def step(self, values: torch.Tensor, *state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """One frame (1, 3, H, W) and the state -> logits (1, C) and the next state."""
        layers = self.layers
        for layer, before in zip(layers, state, strict=True):
            layer.before = before
        logits = self.network(values)
        after = tuple(layer.after for layer in layers)
        for layer in layers:
            layer.before = layer.after = None
        return logits, *after  # type: ignore[return-value]

    def state_shapes(self, size_hw: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """The shapes of the state for frames of `size_hw` px, by name, in the order of `step`."""
        shapes: dict[str, tuple[int, ...]] = {}

        def note(name: str, layer: ShiftedLayer, inputs: tuple[Any, ...]) -> None:
            shapes[name] = (1, layer.channels, *inputs[0].shape[2:])

        hooks = [
            layer.register_forward_pre_hook(partial(note, f"shift_{number}"))
            for number, layer in enumerate(self.layers)
        ]
        with torch.inference_mode():
            self.eval()(torch.zeros(1, 1, 3, *size_hw))
        for hook in hooks:
            hook.remove()
        return shapes


def shifted_channels(network: nn.Module, share: float) -> list[int]:
    """How many channels each residual block shifts. Raises CheckpointError if the backbone has no
    residual blocks that can be shifted."""
    blocks = _residual_blocks(network)
    if not blocks:
        raise CheckpointError(
            "network.shift: this backbone has no residual blocks that are known here; take an "
            "EfficientNet or a ResNet, or set it to 0"
        )
    layers = (getattr(block, _FIRST_LAYERS[type(block)]) for block in blocks)
    return [max(round(share * layer.in_channels), 1) for layer in layers]


def _residual_blocks(network: nn.Module) -> list[nn.Module]:
    """The blocks with a skip connection, in order."""
    return [
        block
        for block in network.modules()
        if type(block) in _FIRST_LAYERS and getattr(block, "has_skip", True)
    ]
