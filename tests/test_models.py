"""Networks, their ImageNet weights, checkpoints, and a training run that learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edge.errors import CheckpointError
from edge.flow.spec import PRESETS
from tests.clips import write_clip
from tests.command import assert_refused, twostream
from train.checkpoint import load_checkpoint, write_checkpoint
from train.cli import network_spec
from train.models import cross_modality, imagenet_weights, pretrained_network
from train.samples import evenly_spaced
from train.ucf101 import Clip

CLASSES = ("Diving", "Drumming")
CLIP = Clip("Diving/v_Diving_g08_c01.avi", Path(), "Diving", 8)


def test_the_packaged_weights_fit_one_to_one_and_give_the_backbone_a_start() -> None:
    network, weights = pretrained_network(3, 2, 0.0), imagenet_weights()
    state = network.state_dict()
    for name in ("conv_stem.weight", "blocks.3.1.conv_dw.weight", "bn2.running_var"):
        assert torch.equal(state[name], weights[name])
    assert not state["classifier.weight"].any()  # equal scores to begin with


def test_cross_modality_sees_grey_as_the_rgb_kernel_did() -> None:
    kernel = imagenet_weights()["conv_stem.weight"]
    flow = cross_modality(kernel, 20)
    assert flow.shape == (kernel.shape[0], 20, 3, 3)
    grey = torch.rand(1, 1, 16, 16)
    rgb = torch.nn.functional.conv2d(grey.repeat(1, 3, 1, 1), kernel)
    stack = torch.nn.functional.conv2d(grey.repeat(1, 20, 1, 1), flow)
    torch.testing.assert_close(stack / 20, rgb / 3, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_a_checkpoint_comes_back_whole(stream: str, tmp_path: Path) -> None:
    spec = network_spec(stream, CLASSES, PRESETS["fast"], 1, [CLIP], [])  # type: ignore[arg-type]
    network = pretrained_network(spec.channels, 2, 0.0).eval()
    torch.nn.init.normal_(network.classifier.weight)
    path = tmp_path / "a.safetensors"
    write_checkpoint(path, network, spec, [{"epoch": 1.0, "loss": 0.5}])
    back, back_spec, history = load_checkpoint(path)
    assert back_spec == spec
    assert history == [{"epoch": 1.0, "loss": 0.5}]
    batch = torch.randn(2, spec.channels, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(back(batch), network(batch))
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_damaged_checkpoints_are_named(tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    for content in (b"", b"\x00" * 100, b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"b\.safetensors: not a twostream checkpoint"):
            load_checkpoint(path)


def test_moments_are_even_and_refuse_a_clip_that_has_no_stack() -> None:
    assert evenly_spaced(111, 10, 5) == [10, 35, 60, 85, 110]
    assert evenly_spaced(11, 10, 3) == [10, 10, 10]
    with pytest.raises(ValueError, match="10 frames; a stack of 10 flows needs 11"):
        evenly_spaced(10, 10, 3)


@pytest.fixture(scope="module")
def made_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A UCF101 tree of two made actions, which look different, and one other to hold out."""
    root = tmp_path_factory.mktemp("ucf")
    patterns = {"Diving": "ball", "Drumming": "smpte", "Archery": "snow", "Bowling": "bar"}
    lists: dict[str, list[str]] = {"trainlist01.txt": [], "testlist01.txt": []}
    for label, pattern in patterns.items():
        (root / "UCF-101" / label).mkdir(parents=True)
        for group in (1, 8, 9, 10, 11):
            name = f"{label}/v_{label}_g{group:02}_c01.avi"
            write_clip(root / "UCF-101" / name, frames=16, pattern=pattern, size_hw=(120, 160))
            lists["testlist01.txt" if group == 1 else "trainlist01.txt"].append(name)
    (root / "ucfTrainTestlist").mkdir()
    for file, names in lists.items():
        (root / "ucfTrainTestlist" / file).write_text("".join(f"{name}\n" for name in names))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_training_learns_two_actions_and_evaluates_them(
    stream: str, made_data: Path, tmp_path: Path
) -> None:
    out, cache = tmp_path / f"{stream}.safetensors", made_data / "cache"
    options = ("--epochs", 2, "--batch", 8, "--snippets", 4, "--cache", cache)
    trained = twostream(
        "train", stream, made_data, "--classes", ",".join(CLASSES), "--out", out, *options
    )
    assert trained.returncode == 0, trained.stderr
    _, spec, history = load_checkpoint(out)
    assert len(history) <= 2
    seen = {name.partition("/")[0] for name in spec.train_clips}
    held = {name.partition("/")[0] for name in spec.validation_clips}
    assert seen == {"Diving", "Drumming", "Archery"}
    assert held == {"Diving", "Drumming", "Bowling"}
    done = twostream("evaluate", made_data, f"--{stream}", out, "--samples", 3, "--cache", cache)
    assert done.returncode == 0, done.stderr
    accuracy = float(done.stderr.partition("top-1 ")[2].split()[0])
    assert "(2 clips, 3 samples each)" in done.stderr
    assert np.isclose(accuracy, 1.0)
    lists = made_data / "ucfTrainTestlist"
    for part in ("train", "test"):  # another split may test on what this one trained on
        (lists / f"{part}list02.txt").write_bytes((lists / f"{part}list01.txt").read_bytes())
    refused = twostream("evaluate", made_data, f"--{stream}", out, "--split", 2, "--cache", cache)
    assert_refused(refused, "was trained on split 1")


@pytest.mark.slow
def test_a_class_without_clips_is_named(made_data: Path) -> None:
    done = twostream("train", "spatial", made_data, "--classes", "Diving,Yodelling")
    assert_refused(done, "Yodelling", "Drumming")


@pytest.mark.slow
def test_a_clip_too_short_to_train_on_is_named(tmp_path: Path) -> None:
    for label in CLASSES:
        (tmp_path / "UCF-101" / label).mkdir(parents=True)
    names = [f"{label}/v_{label}_g{g:02}_c01.avi" for label in CLASSES for g in range(8, 12)]
    for name in names:
        write_clip(tmp_path / "UCF-101" / name, frames=7 if name == names[0] else 12)
    (tmp_path / "ucfTrainTestlist").mkdir()
    lists = {"trainlist01.txt": names, "testlist01.txt": []}
    for file, listed in lists.items():
        (tmp_path / "ucfTrainTestlist" / file).write_text("".join(f"{n}\n" for n in listed))
    done = twostream("train", "spatial", tmp_path, "--cache", tmp_path / "cache")
    assert done.returncode == 2
    assert "g08_c01.avi: 7 frames; a stack of 10 flows needs 11" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
