"""A network that another one teaches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from edge.errors import CheckpointError, DataError
from edge.motion.codec import CODEC
from edge.motion.spec import PRESETS
from edge.spec import Spec
from tests.support import tiny
from train.data.splits import hold_out
from train.data.ucf101 import load_split
from train.models.checkpoint import load_checkpoint, read_metadata
from train.recipe import load_recipe, parse_recipe
from train.training.job import Job, JobOptions, run_job
from train.training.optim import distillation_loss


def test_the_loss_is_least_at_the_teachers_scores() -> None:
    taught = torch.tensor([[4.0, 1.0, -2.0], [0.0, 0.5, 0.0]])
    shifted = taught + 3.0  # the same scores
    assert distillation_loss(shifted, taught, 1, 2.0).item() == pytest.approx(0, abs=1e-6)
    logits = torch.zeros(2, 3, requires_grad=True)
    loss = distillation_loss(logits, taught, 1, 2.0)
    loss.backward()
    assert logits.grad is not None
    closer = distillation_loss(logits.detach() - logits.grad, taught, 1, 2.0)
    assert 0 < closer < loss


def test_the_loss_is_that_of_the_definition() -> None:
    ours, theirs = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    p, q = torch.softmax(theirs / 4, 1), torch.softmax(ours / 4, 1)
    expected = 16 * (p * (p / q).log()).sum()
    assert distillation_loss(ours, theirs, 1, 4.0).item() == pytest.approx(expected.item())


def test_snippets_of_a_sample_are_averaged_first() -> None:
    taught = torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    logits = torch.tensor([[2.5, 0.0], [1.5, 0.0]])
    assert distillation_loss(logits, taught, 2, 1.0).item() == pytest.approx(0, abs=1e-6)


def test_recipes_of_before_have_no_teacher() -> None:
    recipe = json.loads(load_recipe("default", "temporal").to_json())
    del recipe["teacher"]
    assert parse_recipe(json.dumps(recipe)).teacher.checkpoint == ""


def test_a_classifier_alone_has_no_teacher() -> None:
    with pytest.raises(DataError, match=r"allows no teacher\.checkpoint"):
        load_recipe("few-takes", "temporal", ("teacher.checkpoint=a.safetensors",))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_dataset(tmp_path_factory.mktemp("ucf"))


def train(
    data: Path,
    out: Path,
    motion: Spec,
    *changes: str,
    classes: tuple[str, ...] = tiny.CLASSES,
    fraction: float = 0.15,
) -> Path:
    recipe = load_recipe("default", "temporal", (*tiny.CHANGES, "sampling.stack=4", *changes))
    clips, held = hold_out(load_split(data, 1).train, classes, fraction)
    job = Job("temporal", classes, 1, clips, held, recipe, motion)
    return run_job(job, JobOptions(out, "", 0, 1e9, 3, data / "cache"))


@pytest.mark.slow
def test_a_network_of_vectors_is_taught_by_one_of_flow(data: Path, tmp_path: Path) -> None:
    """Started from its weights, and with its scores beside the labels."""
    teacher = train(data, tmp_path, PRESETS["fast"], "schedule.epochs=1")
    both = (f"network.weights={teacher}", f"teacher.checkpoint={teacher}", "teacher.weight=1.0")
    taught = train(data, tmp_path, CODEC, *both, "optimiser.average=0.0")
    assert "temporal_codec" in taught.parent.name
    _, spec, history = load_checkpoint(taught)
    assert spec.input.motion == CODEC
    assert all(0 <= row["loss"] < 10 for row in history)
    metadata = read_metadata(taught)
    assert parse_recipe(metadata["recipe"]).teacher.checkpoint == str(teacher)
    assert metadata["weights"].startswith(f"file {teacher.name}")
    change, others = f"teacher.checkpoint={teacher}", ("Archery", "Bowling")
    with pytest.raises(CheckpointError, match="other classes"):
        train(data, tmp_path / "others", CODEC, change, classes=others)
    with pytest.raises(CheckpointError, match="of the validation clips"):
        train(data, tmp_path / "seen", CODEC, change, fraction=0.6)
