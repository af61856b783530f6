"""3D networks with published weights: torchvision's ResNet3D-18 (Hara et al., "Can Spatiotemporal
3D CNNs Retrace the History of 2D CNNs and ImageNet?", 2018) and R(2+1)D-18 (Tran et al., "A Closer
Look at Spatiotemporal Convolutions for Action Recognition", 2018).

Their tensors have torchvision's names, so that files of its weights can be loaded.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchvision.models.video import resnet

_KINDS = {
    "r3d_18": (resnet.Conv3DSimple, resnet.BasicStem),
    "r2plus1d_18": (resnet.Conv2Plus1D, resnet.R2Plus1dStem),
}
VIDEO_BACKBONES = tuple(_KINDS)
# As timm's configurations are. Mean and deviation are those of torchvision's weights (Kinetics).
VIDEO_CONFIG: dict[str, Any] = {
    "input_size": (3, 112, 112),
    "mean": (0.43216, 0.394666, 0.37645),
    "std": (0.22803, 0.22145, 0.216989),
    "first_conv": "stem.0",
    "classifier": "fc",
}


class VideoResNet(resnet.VideoResNet):
    """(N, channels, T, H, W) -> logits (N, C), with the methods of timm's networks."""

    def __init__(self, backbone: str, channels: int, classes: int, dropout: float) -> None:
        """backbone: one of VIDEO_BACKBONES. dropout: probability, before the classifier."""
        convolution, stem = _KINDS[backbone]
        makers: Any = [convolution] * 4
        super().__init__(resnet.BasicBlock, makers, [2, 2, 2, 2], stem, num_classes=classes)
        self.dropout = nn.Dropout(dropout)
        for module in self.modules():
            if type(module) is resnet.Conv3DSimple:  # which adds a method for its constructor alone
                module.__class__ = nn.Conv3d
        first = self.stem[0]
        if channels != first.in_channels:
            self.stem[0] = nn.Conv3d(
                channels,
                first.out_channels,
                first.kernel_size,
                first.stride,
                first.padding,
                bias=False,
            )

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(batch))

    def forward_features(self, batch: torch.Tensor) -> torch.Tensor:
        """(N, 512, T / 8, H / 16, W / 16)"""
        values = self.stem(batch)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            values = layer(values)
        return values  # type: ignore[no-any-return]

    def forward_head(self, features: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Features -> logits (N, C), or the classifier's input (N, F)."""
        pooled = self.dropout(self.avgpool(features).flatten(1))
        return pooled if pre_logits else self.fc(pooled)

    def get_classifier(self) -> nn.Module:
        return self.fc

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Names of the stem's and the stages' parameters."""
        return {"stem": r"^stem", "blocks": r"^layer(\d+)"}
