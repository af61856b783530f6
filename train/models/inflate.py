"""Inflates a 2D network to a 3D one (Carreira and Zisserman, "Quo Vadis, Action Recognition?",
2017): each kernel is repeated over time and divided by its length.

A clip of one repeated picture then gives what the 2D network gives for the picture, exactly, since
a clip is padded in time with its first and last frame rather than with zeros. Kernels are as long
as they are wide, but three frames at most: clips here are short. Time is halved where pictures are,
but for the first convolution and maximum poolings, as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from torch import nn

from edge.errors import CheckpointError

LENGTH_MAX = 3  # of a kernel, in frames


class GlobalPool3d(nn.Module):
    """(N, C, T, H, W) -> their means (N, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool3d(1)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.pool(values).flatten(1)  # type: ignore[no-any-return]


class RepeatEnds(nn.Module):
    """A clip with its first and last frame repeated. As slices and a concatenation, for torch's
    exporter makes a graph of unknown size of its replication padding."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.before, self.after = before, after

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """(N, C, T, H, W) -> (N, C, before + T + after, H, W)"""
        first, last = [clip[:, :, :1]] * self.before, [clip[:, :, -1:]] * self.after
        return torch.cat([*first, clip, *last], dim=2)


def inflate(network: nn.Module) -> nn.Module:
    """The network, changed in place, for clips (N, channels, T, H, W).

    Raises CheckpointError for layers other than plain convolutions, batch norms, poolings and what
    works on single values: depthwise and grouped 3D convolutions run in float on TensorRT.
    """
    layers = list(_layers(network))
    first = next((layer for _, layer in layers if isinstance(layer, nn.Conv2d)), None)
    for name, layer in layers:
        parent, _, own = name.rpartition(".")
        inflated = _inflated(layer, name, halve_time=layer is not first).train(layer.training)
        setattr(network.get_submodule(parent), own, inflated)
    return network


def _layers(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers without layers of their own, but for poolings, by name and in order."""
    for name, module in network.named_children():
        if type(module) in _INFLATED or not list(module.children()):
            yield f"{prefix}{name}", module
        else:
            yield from _layers(module, f"{prefix}{name}.")


def _inflated(layer: nn.Module, name: str, halve_time: bool) -> nn.Module:
    if type(layer) in _UNCHANGED:
        return layer
    if isinstance(layer, nn.Conv2d):
        return _convolution(layer, name, halve_time)
    if type(layer) in _INFLATED:
        return _INFLATED[type(layer)](layer)
    raise CheckpointError(f"{name}, {type(layer).__name__}, {_REFUSED}")


_REFUSED = "cannot be inflated; take a backbone of plain convolutions, such as resnet18"


def _convolution(layer: nn.Conv2d, name: str, halve_time: bool) -> nn.Module:
    if type(layer) is not nn.Conv2d or isinstance(layer.padding, str) or max(layer.dilation) > 1:
        raise CheckpointError(f"{name}, {type(layer).__name__}, {_REFUSED}")
    if layer.groups > 1:
        raise CheckpointError(f"{name}, a convolution of {layer.groups} groups, {_REFUSED}")
    length = min(max(layer.kernel_size), LENGTH_MAX)
    stride = max(layer.stride) if halve_time else 1
    inflated = nn.Conv3d(
        layer.in_channels,
        layer.out_channels,
        (length, *_pair(layer.kernel_size)),
        (stride, *_pair(layer.stride)),
        (0, *layer.padding),  # type: ignore[arg-type]
        bias=layer.bias is not None,
    )
    with torch.no_grad():
        kernel = layer.weight.unsqueeze(2) / length
        inflated.weight.copy_(kernel.expand_as(inflated.weight))
        if layer.bias is not None and inflated.bias is not None:
            inflated.bias.copy_(layer.bias)
    before, after = (length - 1) // 2, length // 2
    if length == 1:
        return inflated
    return nn.Sequential(RepeatEnds(before, after), inflated)


def _batch_norm(layer: nn.BatchNorm2d) -> nn.Module:
    inflated = nn.BatchNorm3d(layer.num_features, layer.eps, layer.momentum)
    inflated.load_state_dict(layer.state_dict())
    return inflated


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)  # type: ignore[return-value]


def _max_pool(layer: nn.MaxPool2d) -> nn.Module:
    kernel, stride, padding = map(_pair, (layer.kernel_size, layer.stride, layer.padding))
    return nn.MaxPool3d((1, *kernel), (1, *stride), (0, *padding), ceil_mode=layer.ceil_mode)


def _average_pool(layer: nn.AvgPool2d) -> nn.Module:
    kernel, stride, padding = map(_pair, (layer.kernel_size, layer.stride, layer.padding))
    pool = nn.AvgPool3d(
        (1, *kernel), (1, *stride), (0, *padding), layer.ceil_mode, layer.count_include_pad
    )
    # It halves pictures in a skip connection, where the other branch halves time, too. This takes
    # each second frame, as a slice would, of which the ONNX exporter makes a graph of unknown size.
    return nn.Sequential(pool, nn.MaxPool3d(1, (max(stride), 1, 1)))


def _global_pool(layer: SelectAdaptivePool2d) -> nn.Module:
    if layer.pool_type != "avg":
        raise CheckpointError(f"global pooling of kind {layer.pool_type} {_REFUSED}")
    return GlobalPool3d()


_INFLATED: dict[type, Callable[[Any], nn.Module]] = {
    nn.BatchNorm2d: _batch_norm,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
    SelectAdaptivePool2d: _global_pool,
}
_UNCHANGED = (nn.Identity, nn.ReLU, nn.ReLU6, nn.SiLU, nn.Dropout, nn.Linear)
