"""A network of motion and a temporal network joined into one, so that flow never leaves it.

Zhu et al., "Hidden Two-Stream Convolutional Networks for Action Recognition", 2017, section 3.3.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate

from train.models.motionnet import MotionNet

# The temporal network sees flow as it sees that of TV-L1: clipped, as bytes that are normalised
# (see edge/motion/quantise.py and FLOW_NORMALISATION), but for the rounding. So it can start from
# a network that was trained on TV-L1.
BOUND_PX, DEVIATION = 20.0, 0.226
JOINT = "+"  # between both names, in that of the backbone: motionnet_small+efficientnet_lite0


class HiddenTwoStream(nn.Module):
    """(N, L + 1, H, W), normalised luma, oldest first -> logits (N, C). The methods are those of
    timm's networks that are used here."""

    def __init__(self, motion: MotionNet, temporal: nn.Module) -> None:
        super().__init__()
        self.motion, self.temporal = motion, temporal

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.temporal(self.flow_input(frames))  # type: ignore[no-any-return]

    def flow_input(self, frames: torch.Tensor) -> torch.Tensor:
        """The input of the temporal network, (N, 2L, H, W)."""
        flow = self.motion(frames).clamp(-BOUND_PX, BOUND_PX) * (0.5 / BOUND_PX / DEVIATION)
        factor = 2 * self.motion.shrink
        flow = interpolate(flow, scale_factor=factor, mode="bilinear", align_corners=False)
        height, width = frames.shape[2:]
        if flow.shape[2:] != (height, width):  # a side that cannot be halved so often
            flow = flow[:, :, :height, :width]
        return flow

    def forward_features(self, frames: torch.Tensor) -> torch.Tensor:
        return self.temporal.forward_features(self.flow_input(frames))  # type: ignore[operator, no-any-return]

    def forward_head(self, features: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        return self.temporal.forward_head(features, pre_logits=pre_logits)  # type: ignore[operator, no-any-return]

    def get_classifier(self) -> nn.Module:
        return self.temporal.get_classifier()  # type: ignore[operator, no-any-return]


def motion_of(network: nn.Module) -> nn.Module | None:
    """The network of motion in a network, if it has one."""
    return network.motion if isinstance(network, HiddenTwoStream) else None


def temporal_of(network: nn.Module) -> Any:
    """The network of timm in a network: itself, or the one behind the motion."""
    return network.temporal if isinstance(network, HiddenTwoStream) else network
