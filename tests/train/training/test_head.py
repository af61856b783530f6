"""A classifier alone on frozen features, and leave-one-take-out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from edge.motion.spec import PRESETS
from tests.support.clips import write_clip
from train.data.clips import Clip
from train.models.backbone import pretrained_network
from train.models.checkpoint import load_checkpoint
from train.recipe import load_recipe
from train.training.head import HeadSamples, fit_head
from train.training.job import Job, JobOptions, run_job, run_leave_one_out

SMALL = ("network.size_px=64", "sampling.repeats=2", "augmentation.scales=[1.0]")


@pytest.mark.slow
def test_the_classifier_is_that_of_logistic_regression() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], 20)
    features = (rng.normal(size=(3, 5))[labels] + rng.normal(size=(60, 5))).astype(np.float32)
    features += 7  # not centred
    recipe = load_recipe("few-takes", "spatial", ("optimiser.weight_decay=0.01",))
    samples = HeadSamples(
        torch.from_numpy(features),
        torch.eye(3)[torch.from_numpy(labels)],
        torch.ones(60),
        np.arange(60),
    )
    head = fit_head(samples, recipe)
    centred = features - features.mean(axis=0)
    scaled = centred / np.sqrt((centred**2).sum(axis=1).mean())
    # sklearn's C multiplies the sum of the losses, and its penalty is halved
    expected = LogisticRegression(C=1 / (2 * 0.01 * 60), max_iter=1000, tol=1e-8)
    expected.fit(scaled, labels)
    scores = torch.softmax(torch.from_numpy(head(samples.features)), dim=1).numpy()
    np.testing.assert_allclose(scores, expected.predict_proba(scaled), atol=2e-3)


@pytest.fixture(scope="module")
def takes(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Five takes of each of two actions, and one of Ball that looks like Bars."""
    root = tmp_path_factory.mktemp("takes")
    patterns = [("Ball", "ball")] * 5 + [("Bars", "smpte")] * 5 + [("Ball", "smpte")]
    clips = []
    for number, (label, pattern) in enumerate(patterns):
        path = write_clip(root / f"{number}.avi", frames=16, pattern=pattern, size_hw=(96, 128))
        clips.append(Clip(f"{label}/{number}.avi", path, label, str(number)))
    return clips


def job(clips: list[Clip], stream: str) -> Job:
    recipe = load_recipe("few-takes", stream, SMALL)
    return Job(stream, ("Ball", "Bars"), 1, clips, [], recipe, PRESETS["fast"])


def options(folder: Path) -> JobOptions:
    return JobOptions(folder, "auto", None, 0.0, 1, folder / "cache")


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_only_the_classifier_is_trained(takes: list[Clip], tmp_path: Path, stream: str) -> None:
    file = run_job(job(takes, stream), options(tmp_path))
    network, spec, history = load_checkpoint(file)
    initial, _ = pretrained_network(
        "efficientnet_lite0", spec.channels, 2, 0.0, "imagenet", "colours"
    )
    expected = initial.state_dict()
    changed = {n for n, v in network.state_dict().items() if not torch.equal(v, expected[n])}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert history[0]["loss"] < np.log(2)


@pytest.mark.slow
def test_a_take_is_judged_by_what_was_learnt_without_it(takes: list[Clip], tmp_path: Path) -> None:
    """The odd take of Ball is bars to whoever has not been told."""
    found = run_leave_one_out(job(takes, "spatial"), options(tmp_path))
    best = {name: logits.mean(axis=0).argmax() for name, logits in found.logits.items()}
    assert best["Ball/10.avi"] == 1
    assert [best[f"Ball/{n}.avi"] for n in range(5)] == [0] * 5
    assert found.logits["Ball/0.avi"].shape == found.changes["Ball/0.avi"].shape
    # the network of all takes has been told, and so gives Ball more
    assert found.changes["Ball/10.avi"][:, 0].mean() < found.changes["Ball/10.avi"][:, 1].mean()
    assert load_checkpoint(found.checkpoint)[1].train_clips == tuple(c.name for c in takes)
