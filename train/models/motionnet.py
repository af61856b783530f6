"""MotionNet: the flow between stacked pictures, by a network that is trained without labels.

After Zhu et al., "Hidden Two-Stream Convolutional Networks for Action Recognition", 2017: twelve
convolutions go down to a 32nd of the picture, four deconvolutions go back up to half of it, and
flow is estimated at five scales, each from the one before. The published network finds all flows of
a stack at once. The small one sees each two successive pictures alone, with the same weights for
all: a stack of ten flows teaches it ten times, and its channels need not carry ten motions.

Unlike the paper's, it sees luma instead of RGB: flow is what keeps brightness, and TV-L1 sees no
more. Its activations are ReLU instead of leaky, which every INT8 kernel fuses with its convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, relu

# Flow is computed in units of so many px, so that it has about the size of the features beside it:
# both are joined, and have one INT8 scale.
UNIT_PX = 4.0
DIFFERENCE_GAIN = 4.0  # of the first layer, when training starts


@dataclass(frozen=True, slots=True)
class Size:
    """encoder: channels of the convolutions at each scale, six of them. decoder: channels of the
    deconvolution to each scale but the coarsest, coarse to fine. shrink: the network computes on
    pictures of the input's size divided by it. pairwise: it sees two pictures at a time."""

    encoder: tuple[int, ...]
    decoder: tuple[int, ...]
    shrink: int
    pairwise: bool


SIZES = {
    "motionnet": Size((64, 128, 256, 512, 512, 1024), (512, 256, 128, 64), 1, False),
    "motionnet_small": Size((4, 12, 16, 24, 32, 48), (32, 24, 14, 8), 2, True),
}


class MotionNet(nn.Module):
    """(N, L + 1, H, W), normalised luma, oldest first -> flow (N, 2L, h, w): all u, then all v, in
    px of the input. h and w are half the size that the network computes at (see Size.shrink). A
    pairwise one takes any L."""

    def __init__(self, name: str, frames: int) -> None:
        """name: of SIZES. frames: L + 1."""
        super().__init__()
        size = SIZES[name]
        self.shrink, self.pairwise = size.shrink, size.pairwise
        frames = 2 if size.pairwise else frames  # that it sees at a time
        flows = 2 * (frames - 1)
        self.first = nn.ModuleList()  # of each scale: from the scale before, then at this one
        self.second = nn.ModuleList()
        for index, channels in enumerate(size.encoder):
            before = size.encoder[index - 1] if index else frames
            self.first.append(nn.Conv2d(before, channels, 3, 2 if index else 1, 1))
            self.second.append(nn.Conv2d(channels, channels, 3, 1, 1))
        self.flow = nn.ModuleList([nn.Conv2d(size.encoder[-1], flows, 3, 1, 1)])
        self.up, self.flow_up, self.join = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        below = size.encoder[-1]
        for channels, skip in zip(size.decoder, size.encoder[-2:0:-1], strict=True):
            self.up.append(nn.ConvTranspose2d(below, channels, 4, 2, 1))
            self.flow_up.append(nn.ConvTranspose2d(flows, flows, 4, 2, 1))
            self.join.append(nn.Conv2d(skip + channels + flows, channels, 3, 1, 1))
            self.flow.append(nn.Conv2d(channels, flows, 3, 1, 1))
            below = channels
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        for layer in (*self.flow, *self.flow_up):  # so that training starts from little motion
            layer.weight.data *= 0.5  # type: ignore[union-attr, operator]
        if self.pairwise:
            # Motion is in the difference of two pictures that are almost the same: to start from
            # the weights of their mean and their difference saves most of the first thousand steps.
            weights = self.first[0].weight.data  # type: ignore[union-attr]
            mean, change = 0.5 * weights[:, :1], DIFFERENCE_GAIN * weights[:, 1:]  # type: ignore[index]
            weights.copy_(torch.cat([mean - change, mean + change], dim=1))  # type: ignore[operator]

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.scales(frames)[-1]

    def scales(self, frames: torch.Tensor) -> list[torch.Tensor]:
        """The flow at each of the five scales, coarse to fine, (N, 2L, h, w) each, in px of the
        input."""
        values = avg_pool2d(frames, self.shrink) if self.shrink > 1 else frames
        if not self.pairwise:
            return self._scales(values)
        count, (height, width) = values.shape[1] - 1, values.shape[2:]
        pairs = [values[:, index : index + 2] for index in range(count)]
        together = torch.stack(pairs, dim=1).reshape(-1, 2, height, width)  # (N L, 2, h, w)
        return [
            flow.reshape(-1, count, *flow.shape[1:]).transpose(1, 2).flatten(1, 2)
            for flow in self._scales(together)
        ]

    def _scales(self, values: torch.Tensor) -> list[torch.Tensor]:
        """`scales` of pictures that are shrunk, and of all that it sees at a time."""
        skips = []
        for first, second in zip(self.first, self.second, strict=True):
            values = relu(second(relu(first(values))))
            skips.append(values)
        flows = [self.flow[0](values)]
        for index, skip in enumerate(skips[-2:0:-1]):
            parts = relu(self.up[index](values)), self.flow_up[index](flows[-1])
            joined = torch.cat([skip, *(_cut(part, skip) for part in parts)], dim=1)
            values = self.join[index](joined)
            flows.append(self.flow[index + 1](values))
        return [UNIT_PX * flow for flow in flows]


def _cut(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Cut off a row or column too many, where an odd side was rounded up on the way down."""
    height, width = like.shape[2:]
    if values.shape[2:] == (height, width):
        return values
    return values[:, :, :height, :width]
