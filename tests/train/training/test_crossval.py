"""Cross-validation by group, with one seed and with several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.motion.spec import PRESETS
from tests.support import tiny
from train.data.ucf101 import load_split
from train.models.checkpoint import find_checkpoint, load_checkpoint
from train.recipe import load_recipe
from train.training.crossval import Trial, cross_validate
from train.training.job import JobOptions

pytestmark = pytest.mark.slow


def test_each_seed_trains_all_folds_and_has_a_mean_of_its_own(tmp_path: Path) -> None:
    split = load_split(tiny.write_dataset(tmp_path / "ucf"), 1)
    recipe = load_recipe("default", "spatial", (*tiny.CHANGES, "schedule.epochs=1"))
    clips = (*split.train, *split.test)
    options = JobOptions(tmp_path / "runs", "auto", 0, 1e9, 1, tmp_path / "cache")
    trial = Trial(tiny.CLASSES, clips, {"spatial": recipe}, PRESETS["fast"], 2, 2)
    report = cross_validate(trial, options)
    assert (report["seeds"], report["test_clips"]) == (2, [6, 4])
    for row in report["top1"].values():
        assert len(row["folds"]) == len(row["seeds"]) == 2
        assert np.mean(row["folds"]) == pytest.approx(row["mean"], abs=1e-4)
        assert np.mean(row["seeds"]) == pytest.approx(row["mean"], abs=1e-4)
        assert row["deviation_of_seeds"] == pytest.approx(np.std(row["seeds"], ddof=1), abs=1e-4)
    first, second = (
        load_checkpoint(find_checkpoint(next((tmp_path / "runs" / fold).iterdir())))
        for fold in ("fold1", "seed2/fold1")
    )
    assert first[1].train_clips == second[1].train_clips  # folds do not depend on the seed
    weights = [next(iter(network.state_dict().values())) for network, *_ in (first, second)]
    assert not (weights[0] == weights[1]).all()
    alone = cross_validate(replace(trial, seeds=1), options)
    assert alone["top1"]["spatial"]["seeds"] == report["top1"]["spatial"]["seeds"][:1]
    assert alone["top1"]["spatial"]["deviation_of_seeds"] is None
