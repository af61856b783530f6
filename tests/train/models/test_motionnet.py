"""The network that finds motion: its size, its shapes, and the network behind it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edge.errors import CheckpointError
from train.models.backbone import build_network, classifier, pooled_features, split_parameters
from train.models.hidden import HiddenTwoStream
from train.models.motionnet import MotionNet

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def multiplications(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of all convolutions for one input."""
    total = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal total
        # each output of a convolution, and each input of a transposed one, meets a whole kernel
        met = output if isinstance(module, nn.Conv2d) else inputs[0]
        total += met.numel() * module.weight[0].numel()  # type: ignore[operator, union-attr, index]

    for module in network.modules():
        if isinstance(module, CONVOLUTIONS):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros(shape))
    return total


@pytest.mark.slow
def test_the_small_one_takes_at_most_300_million_multiplications() -> None:
    """At 112 px, which a view of 224 px is shrunk to."""
    network = MotionNet("motionnet_small", 11)
    assert network.shrink == 2
    assert multiplications(network, (1, 11, 224, 224)) <= 300e6


@pytest.mark.slow
def test_the_published_one_is_that_of_the_paper() -> None:
    """29 convolutions, transposed ones among them, of up to 1024 channels, and flow at five scales
    to half the size."""
    network = MotionNet("motionnet", 11)
    layers = [module for module in network.modules() if isinstance(module, CONVOLUTIONS)]
    assert len(layers) == 29
    assert max(layer.out_channels for layer in layers) == 1024
    with torch.inference_mode():
        flows = network.scales(torch.zeros(1, 11, 64, 64))
    assert [tuple(flow.shape) for flow in flows] == [(1, 20, s, s) for s in (2, 4, 8, 16, 32)]


@pytest.mark.parametrize("size_hw", [(64, 64), (96, 128), (70, 58)])
def test_its_flow_has_a_quarter_of_the_view_however_that_divides(size_hw: tuple[int, int]) -> None:
    with torch.inference_mode():
        flow = MotionNet("motionnet_small", 4)(torch.zeros(2, 4, *size_hw))
    assert tuple(flow.shape) == (2, 6, *(-(-side // 4) for side in size_hw))


class _Known(nn.Module):
    """A network of motion that finds the same flow everywhere."""

    def __init__(self, flow_px: float) -> None:
        super().__init__()
        self.flow_px, self.shrink = flow_px, 2

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return torch.full((len(frames), 6, 16, 16), self.flow_px)


@pytest.mark.parametrize(("flow_px", "level"), [(0.0, 127.5), (10.0, 191.25), (25.0, 255.0)])
def test_the_network_behind_it_sees_flow_as_that_of_tvl1(flow_px: float, level: float) -> None:
    """Clipped at 20 px, as bytes with the normalisation of flow, but for half a level."""
    joint = HiddenTwoStream(_Known(flow_px), nn.Identity())  # type: ignore[arg-type]
    seen = joint(torch.zeros(1, 4, 64, 64))
    assert tuple(seen.shape) == (1, 6, 64, 64)
    expected = (level / 255 - 127.5 / 255) / 0.226
    assert seen.min() == pytest.approx(expected, abs=1e-5)
    assert seen.max() == pytest.approx(expected, abs=1e-5)


def test_a_joint_network_is_used_as_any_other() -> None:
    network = build_network("motionnet_small+efficientnet_lite0", 4, 5, 0.0).eval()
    frames = torch.randn(2, 4, 64, 64)
    with torch.inference_mode():
        features = pooled_features(network, frames)
        torch.testing.assert_close(classifier(network)(features), network(frames))
    parts = split_parameters(network)
    assert [tuple(p.shape) for p in parts.head] == [(5, 1280), (5,)]
    assert len(parts.motion) == 58  # 29 layers with a bias each
    assert len(parts.body) + 60 == len(list(network.parameters()))


def test_an_unknown_network_of_motion_is_refused() -> None:
    with pytest.raises(CheckpointError, match="network of motion 'flownet' does not exist; give"):
        build_network("flownet+efficientnet_lite0", 4, 5, 0.0)
