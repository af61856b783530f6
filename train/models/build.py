"""Networks by what they see: a picture or a stack of flow, a picture and the steps before it, or a
clip."""

from __future__ import annotations

from torch import nn

from edge.bundle.network import NetworkSpec
from edge.inputs.builder import CLIPS
from edge.inputs.rgb_online import RGBOnlineInput
from train.models.backbone import build_network, pretrained_network
from train.models.inflate import inflate
from train.models.motionnet import MotionNet
from train.models.online import OnlineNetwork
from train.models.video_resnet import VIDEO_BACKBONES
from train.recipe import NetworkRecipe


def network_of(spec: NetworkSpec) -> nn.Module:
    """The network of a checkpoint, with random weights, in training mode: inputs as
    train.data.snippets builds them -> logits (N, C). Raises CheckpointError if it cannot be built.
    """
    network = build_network(spec.backbone, spec.channels, len(spec.classes), dropout=0.0)
    return _over_time(network, spec)


def initial_network(
    spec: NetworkSpec, recipe: NetworkRecipe, dropout: float, motion: MotionNet | None = None
) -> tuple[nn.Module, str]:
    """A new network with its initial weights, and their source as text. motion: the trained network
    of motion of a joint one. Raises CheckpointError if they cannot be loaded or do not fit."""
    network, source = pretrained_network(
        spec.backbone,
        spec.channels,
        len(spec.classes),
        dropout,
        recipe.weights,
        recipe.flow_kernel,
        motion,
    )
    return _over_time(network, spec), source


def _over_time(network: nn.Module, spec: NetworkSpec) -> nn.Module:
    if isinstance(spec.input, RGBOnlineInput):
        return OnlineNetwork(network, [shape[1] for shape in spec.input.state.values()])
    if isinstance(spec.input, CLIPS) and spec.backbone not in VIDEO_BACKBONES:
        return inflate(network)
    return network
