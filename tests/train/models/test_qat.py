"""Fine-tuning with the rounding of INT8."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from calibration.placement import quantise_weight
from tests.support import tiny
from tests.support.command import assert_refused, twostream
from train.models.checkpoint import find_checkpoint, read_metadata
from train.models.qat import RANGE, plain_state, round_layers
from train.recipe import Recipe


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


def test_weights_are_rounded_as_by_calibration() -> None:
    network = small_network()
    weight = network[0].weight.detach().numpy()
    whole, scales = quantise_weight(weight, 0)
    assert round_layers(network) == 2
    expected = whole * scales[:, None, None, None]
    np.testing.assert_allclose(network[0].rounded_weight().detach().numpy(), expected, atol=1e-7)


def test_a_rounding_network_differs_little_and_trains() -> None:
    network, batch = small_network(), torch.randn(8, 3, 16, 16)
    exact = copy.deepcopy(network).eval()
    round_layers(network)
    network.train()(batch).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    network.eval()
    exact.load_state_dict(plain_state(network))  # the same names, whatever the rounding added
    apart = (network(batch) - exact(batch)).abs().max().item()
    assert 0 < apart < 0.05
    ranges = [tensor for name, tensor in network.state_dict().items() if name.endswith(RANGE)]
    assert len(ranges) == 2
    assert all(value > 0 for value in ranges)


def test_folding_batch_norm_does_not_change_the_rounding() -> None:
    """Folded into the convolution or behind it: the same steps, so the same outputs."""
    network = small_network()
    norm = network[1]
    norm.running_var.uniform_(0.1, 9)
    norm.weight.data.uniform_(0.2, 3)
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
    folded, _ = quantise_weight(
        (network[0].weight * scale[:, None, None, None]).detach().numpy(), 0
    )
    apart, _ = quantise_weight(network[0].weight.detach().numpy(), 0)
    assert (folded == apart).mean() > 0.99
    assert np.abs(folded.astype(int) - apart).max() <= 1


@pytest.mark.slow
def test_a_fine_tuned_checkpoint_has_no_rounding_buffers(tmp_path: Path) -> None:
    data = tiny.write_dataset(tmp_path / "ucf")
    trained = tiny.train(data, tmp_path / "work", "spatial")
    done = twostream(
        *("train", "spatial", data, "--qat", trained, "--out", tmp_path / "fine"),
        *("--cache", data / "cache", "--workers", 0, "--set", "schedule.epochs=1"),
    )
    assert done.returncode == 0, done.stderr
    assert "50 layers round their inputs and weights" in done.stderr
    (run,) = (tmp_path / "fine").iterdir()
    assert run.name.endswith(f"-qat-{trained.stem}")
    file = find_checkpoint(run)
    before, after = load_file(trained), load_file(file)
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    recipe = Recipe.model_validate_json(read_metadata(file)["recipe"])
    original = Recipe.model_validate_json(read_metadata(trained)["recipe"])
    assert recipe.optimiser.rate == pytest.approx(original.optimiser.rate / 10)
    assert recipe.network.quantise
    assert recipe.schedule.epochs == 1
    for ignored in (("--recipe", "default"), ("--motion", "fast"), ("--classes", "Diving,Archery")):
        refused = twostream("train", "spatial", data, "--qat", trained, *ignored)
        assert_refused(refused, f"{ignored[0]}: --qat takes it from the checkpoint")
    refused = twostream("train", "temporal", data, "--qat", trained, "--out", tmp_path / "other")
    assert_refused(refused, "is a spatial checkpoint, not a temporal one")
