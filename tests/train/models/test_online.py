"""Online temporal shift: what a step sees, and that training, evaluation and live steps agree."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from edge.errors import CheckpointError
from edge.motion.spec import PRESETS
from train.data.clips import Clip
from train.models.backbone import build_network, classifier, freeze_stages, pooled_features
from train.models.build import initial_network, network_of
from train.models.online import OnlineNetwork, shifted_channels
from train.models.spec import OverTime, network_spec
from train.recipe import load_recipe

pytestmark = pytest.mark.slow
STEPS, SIDE = 4, 32
CLIP = Clip("Diving/v_Diving_g08_c01.avi", None, "Diving", "08")  # type: ignore[arg-type]


@pytest.fixture(params=["resnet18", "efficientnet_lite0"])
def network(request: pytest.FixtureRequest) -> OnlineNetwork:
    torch.manual_seed(1)
    plain = build_network(request.param, 3, 4, 0.0)
    for layer in plain.modules():
        if isinstance(layer, nn.BatchNorm2d):  # or a network without training mutes everything
            nn.init.constant_(layer.weight, 2.0)
    # in double precision: a network without training makes much of a rounding
    return OnlineNetwork(plain, shifted_channels(plain, 0.125)).eval().double()


def snippets(count: int = 2) -> torch.Tensor:
    random = torch.Generator().manual_seed(2)
    return torch.randn(count, STEPS, 3, SIDE, SIDE, generator=random, dtype=torch.float64)


def test_live_steps_give_what_a_snippet_gives(network: OnlineNetwork) -> None:
    """Frame by frame, with the state handed on, as on a camera."""
    batch = snippets(1)
    shapes = deepcopy(network).float().state_shapes((SIDE, SIDE))
    state = [torch.zeros(shape, dtype=torch.float64) for shape in shapes.values()]
    with torch.inference_mode():
        for number in range(STEPS):
            logits, *state = network.step(batch[:, number], *state)
            wanted = network(batch[:, : number + 1])
            torch.testing.assert_close(logits, wanted, rtol=1e-6, atol=1e-6)


def test_a_step_sees_the_ones_before_it_and_none_after(network: OnlineNetwork) -> None:
    batch, first, last = snippets(1), snippets(1), snippets(1)
    first[:, -2] += 1
    last[:, -1] += 1
    with torch.inference_mode():
        assert (network(batch) - network(first)).abs().max() > 1e-4
        rows = [network.network(network.steps_of(each)) for each in (batch, last)]
    assert torch.equal(rows[0][:-1], rows[1][:-1])


def test_snippets_of_a_batch_do_not_mix(network: OnlineNetwork) -> None:
    batch = snippets(3)
    with torch.inference_mode():
        alone = torch.cat([network(each[None]) for each in batch])
        torch.testing.assert_close(network(batch), alone, rtol=1e-6, atol=1e-6)
        features = pooled_features(network, batch)
        head = classifier(network)(features)
    torch.testing.assert_close(head, alone, rtol=1e-6, atol=1e-6)


def test_training_takes_the_consensus_of_all_steps(network: OnlineNetwork) -> None:
    copy = deepcopy(network).train()
    for layer in copy.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm | nn.Dropout):
            layer.eval()
    batch = snippets()
    with torch.inference_mode():
        rows = torch.stack([network(batch[:, : n + 1]) for n in range(STEPS)], dim=1)
        torch.testing.assert_close(copy(batch), rows.mean(dim=1), rtol=1e-6, atol=1e-6)


def test_an_eighth_of_each_residual_block_is_shifted() -> None:
    lite = build_network("efficientnet_lite0", 3, 4, 0.0)
    channels = [24, 40, 80, 80, 112, 112, 192, 192, 192]
    assert shifted_channels(lite, 0.125) == [count // 8 for count in channels]
    with pytest.raises(CheckpointError, match="no residual blocks that are known here"):
        shifted_channels(build_network("vgg11", 3, 4, 0.0), 0.125)


def test_specification_and_imagenet_weights() -> None:
    """The checkpoint's specification is enough to build it again; the weights are ImageNet's."""
    spec = network_spec(
        *("spatial", ("a", "b"), PRESETS["fast"], 1, [CLIP], []),
        size_px=SIDE,
        over_time=OverTime(0.125, 8, 3),
    )
    assert (spec.input.kind, spec.input.frames, spec.input.step_interval_s) == (
        *("rgb_online", 8),
        0.12,
    )
    assert spec.state["shift_0"] == (1, 3, SIDE // 4, SIDE // 4)
    recipe = load_recipe("tsm", "spatial")
    network, source = initial_network(spec, recipe.network, 0.0)
    assert source.startswith("package efficientnet-lite0")
    network_of(spec).load_state_dict(network.state_dict())
    plain, _ = initial_network(
        network_spec("spatial", ("a", "b"), PRESETS["fast"], 1, [CLIP], []), recipe.network, 0.0
    )
    kernels = [m.weight for m in plain.modules() if isinstance(m, nn.Conv2d)]
    shifted = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert all(torch.equal(*pair) for pair in zip(kernels, shifted, strict=True))
    assert len(freeze_stages(network, 2)) == len(freeze_stages(plain, 2))


def test_shift_is_refused_where_it_makes_no_sense() -> None:
    with pytest.raises(CheckpointError, match="not for the temporal stream"):
        network_spec(
            *("temporal", ("a", "b"), PRESETS["fast"], 1, [CLIP], []),
            size_px=SIDE,
            over_time=OverTime(0.125, 8, 3),
        )
