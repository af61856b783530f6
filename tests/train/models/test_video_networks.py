"""3D networks: inflation keeps what the 2D network knows, and torchvision's weights load."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models.video import r2plus1d_18, r3d_18

from edge.errors import CheckpointError
from edge.motion.spec import PRESETS
from train.data.clips import Clip
from train.models.backbone import (
    build_network,
    classifier,
    freeze_stages,
    pooled_features,
    pretrained_network,
    split_parameters,
)
from train.models.build import network_of
from train.models.inflate import inflate
from train.models.qat import round_layers
from train.models.spec import OverTime, network_spec

pytestmark = pytest.mark.slow
CLIP = Clip("Diving/v_Diving_g08_c01.avi", None, "Diving", "08")  # type: ignore[arg-type]
TORCHVISION = {"r3d_18": r3d_18, "r2plus1d_18": r2plus1d_18}


def train_norms(network: nn.Module) -> nn.Module:
    """Norms that differ from layer to layer, as after a training."""
    for number, layer in enumerate(network.modules()):
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.constant_(layer.weight, 1.0 + 0.1 * (number % 3))
            nn.init.constant_(layer.running_mean, 0.05)
    return network.eval()


@pytest.mark.parametrize("backbone", ["resnet18", "resnet26", "resnet10t"])
def test_a_still_clip_gives_what_the_picture_gives(backbone: str) -> None:
    torch.manual_seed(1)
    plain = train_norms(build_network(backbone, 3, 5, 0.0))
    picture = torch.randn(2, 3, 48, 64)
    network = inflate(deepcopy(plain))
    with torch.inference_mode():
        wanted = plain(picture)
        still = network(picture.unsqueeze(2).expand(-1, -1, 8, -1, -1))
        moving = network(torch.randn(2, 3, 8, 48, 64))
    torch.testing.assert_close(still, wanted, rtol=1e-3, atol=1e-4)
    assert (moving - wanted).abs().max() > 1e-3
    assert not any(isinstance(layer, nn.Conv2d) for layer in network.modules())


@pytest.mark.parametrize(
    ("backbone", "reason"),
    [
        ("efficientnet_lite0", "a convolution of 32 groups"),
        ("resnext50_32x4d", "a convolution of 32 groups"),
        ("convnext_atto", "cannot be inflated"),
    ],
)
def test_what_is_not_plain_is_named(backbone: str, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        inflate(build_network(backbone, 3, 2, 0.0))


@pytest.mark.parametrize("backbone", TORCHVISION)
@pytest.mark.parametrize("channels", [3, 2])
def test_published_weights_load_by_their_names(
    backbone: str, channels: int, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    published = TORCHVISION[backbone](num_classes=400)
    file = tmp_path / "weights.pth"
    torch.save(published.state_dict(), file)
    network, source = pretrained_network(backbone, channels, 3, 0.0, str(file))
    assert source.startswith("file weights.pth")
    published.fc, network.fc = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    clip = torch.randn(1, 3, 4, 32, 32)
    if channels == 2:  # each kernel is the mean over the colours, for u and for v alike
        clip = clip[:, :1].expand(-1, 3, -1, -1, -1)
    with torch.inference_mode():
        wanted = published.eval()(clip)
        found = network.eval()(clip if channels == 3 else clip[:, :2] * 1.5)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_they_are_nowhere_to_be_downloaded() -> None:
    with pytest.raises(CheckpointError, match="give a file of torchvision's"):
        pretrained_network("r3d_18", 3, 2, 0.0, "imagenet")


@pytest.mark.parametrize("backbone", ["r3d_18", "resnet18"])
@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_a_checkpoint_says_all_that_is_needed(backbone: str, stream: str) -> None:
    spec = network_spec(
        *(stream, ("a", "b"), PRESETS["fast"], 1, [CLIP], []),
        *(backbone, "none", 32, 10),
        over_time=OverTime(0.0, 4, 2),
    )
    assert spec.input_shape == (1, 3 if stream == "spatial" else 2, 4, 32, 32)
    assert spec.input.step_interval_s == 0.08
    network = network_of(spec).eval()
    batch = torch.randn(2, *spec.input_shape[1:])
    with torch.inference_mode():
        features = pooled_features(network, batch)
        torch.testing.assert_close(classifier(network)(features), network(batch))
    head = split_parameters(network).head
    assert [tuple(each.shape) for each in head] == [(2, features.shape[1]), (2,)]
    assert len(freeze_stages(network, 1)) > 2
    assert round_layers(network) > 20


def test_a_network_of_clips_needs_frames() -> None:
    with pytest.raises(CheckpointError, match=r"r3d_18: sees clips; set sampling.frames"):
        network_spec(*("spatial", ("a", "b"), PRESETS["fast"], 1, [CLIP], []), "r3d_18", "none")
