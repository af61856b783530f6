"""Quantisation-aware fine-tuning: training with the rounding of the INT8 network.

Inputs and weights of convolutions, transposed ones and linear layers are rounded as by
calibration/placement.py: symmetric, with one scale per input tensor and one per output channel of
the weights. Gradients ignore the rounding (straight-through estimator; Jacob et al., "Quantization
and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018). Batch norm
is not folded: it scales each output channel, and the scale of that channel's weights with it.
"""

from __future__ import annotations

import torch
from torch import nn

LEVELS = 127
RANGE = "input_range"  # name of a buffer of each rounding layer; not in checkpoints
_RANGE_UPDATE = 0.05  # share of the newest batch in the moving average of a layer's input range


class _Rounding:
    """Rounds a layer's inputs and weights. input_range: moving average of the largest |input|."""

    input_range: torch.Tensor
    weight: torch.Tensor
    training: bool
    output_axis = 0  # of the weights

    def rounded_input(self, values: torch.Tensor) -> torch.Tensor:
        """Inputs rounded to int8 levels, in float; in training mode the range is updated."""
        if self.training:
            peak = values.detach().abs().amax().float()
            average = torch.lerp(self.input_range, peak, _RANGE_UPDATE)
            self.input_range.copy_(torch.where(self.input_range == 0, peak, average))
        scale = (self.input_range / LEVELS).clamp(min=1e-12)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_tensor_affine(values, scale, zero, -LEVELS, LEVELS)

    def rounded_weight(self) -> torch.Tensor:
        """The weights rounded to int8 levels, in float."""
        weight, axis = self.weight, self.output_axis
        others = tuple(i for i in range(weight.ndim) if i != axis)
        scales = (weight.detach().abs().amax(dim=others).float() / LEVELS).clamp(min=1e-12)
        zeros = torch.zeros_like(scales, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scales, zeros, axis, -LEVELS, LEVELS)


class _RoundingConv2d(_Rounding, nn.Conv2d):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(self.rounded_input(values), self.rounded_weight(), self.bias)


class _RoundingConv3d(_Rounding, nn.Conv3d):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(self.rounded_input(values), self.rounded_weight(), self.bias)


class _RoundingConvTranspose2d(_Rounding, nn.ConvTranspose2d):
    output_axis = 1

    def forward(self, values: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        assert isinstance(self.padding, tuple)
        shape = self.stride, self.padding, self.output_padding
        weight, inputs = self.rounded_weight(), self.rounded_input(values)
        return nn.functional.conv_transpose2d(inputs, weight, self.bias, *shape)


class _RoundingLinear(_Rounding, nn.Linear):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        rounded = self.rounded_input(values)
        return nn.functional.linear(rounded, self.rounded_weight(), self.bias)


_KINDS: dict[type, type] = {
    nn.Conv2d: _RoundingConv2d,
    nn.Conv3d: _RoundingConv3d,
    nn.ConvTranspose2d: _RoundingConvTranspose2d,
    nn.Linear: _RoundingLinear,
}


def round_layers(network: nn.Module) -> int:
    """Add rounding to all convolutions and linear layers, in place. Returns their number."""
    count = 0
    for module in network.modules():
        kind = _KINDS.get(type(module))
        if kind is not None:
            module.__class__ = kind
            module.register_buffer(RANGE, torch.zeros(()))
            count += 1
    return count


def plain_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict of a network, without the buffers of rounding layers."""
    state = network.state_dict()
    return {name: tensor for name, tensor in state.items() if name.split(".")[-1] != RANGE}
