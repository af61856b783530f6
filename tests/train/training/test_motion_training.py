"""Training a network of motion: it learns from pictures alone, and goes on where it was stopped."""

from __future__ import annotations

import logging
import signal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from edge.errors import CheckpointError
from edge.inputs.luma_stack import LumaStackInput
from edge.motion.preprocessor import Step
from edge.motion.spec import PRESETS
from edge.video.frames import Frame
from tests.support.moving import write_drift
from train.data.cache import CachedClip, ClipCache
from train.data.clips import Clip
from train.models.motion_checkpoint import MotionNetSpec, MotionRecipe, load_motion
from train.models.spec import FLOW_NORMALISATION
from train.streams import training_view
from train.training.motion import CHECKPOINT, STATE, MotionRun, MotionTraining, rate_share
from train.training.motion_data import MotionSamples, _repeat_some
from train.training.stop import Interrupted

VIEW = training_view((64, 64))
DRIFTS = {"right": (6, 0), "up": (0, -6), "slant": (-5, 4)}
FAST = PRESETS["fast"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[CachedClip]:
    root = tmp_path_factory.mktemp("drifts")
    paths = [
        write_drift(root / f"{name}.mp4", frames=12, drift=drift) for name, drift in DRIFTS.items()
    ]
    store = ClipCache(root / "cache", VIEW, FAST.interval_s, [FAST])
    found = list(store.fill([Clip(p.stem, p, p.stem, "1") for p in paths], 1, 3))
    assert all(isinstance(clip, CachedClip) for clip in found)
    return found  # type: ignore[return-value]


def spec_of(**changes: object) -> MotionNetSpec:
    values: dict[str, object] = {
        "seed": 1,
        "steps": 4,
        "batch": 2,
        "rate": 1e-3,
        "clip_norm": 10.0,
        "smoothness": 0.3,
        "teacher": "none",
        "drift": 0.0,
        "scales": (1.0, 0.75),
        "still": 0.5,
    }
    return MotionNetSpec(
        network="motionnet_small",
        geometry=VIEW,
        input=LumaStackInput(kind="luma_stack", frames=4, interval_s=FAST.interval_s),
        normalisation=FLOW_NORMALISATION,
        split=1,
        train_clips=tuple(DRIFTS),
        validation_clips=(),
        recipe=MotionRecipe.model_validate(values | changes),
    )


def train(clips: list[CachedClip], folder: Path, resume: bool = False, **changes: object) -> Path:
    training = MotionTraining(clips, spec_of(**changes), MotionRun(folder, resume, 0))
    return training([])[0]


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_bits(
    clips: list[CachedClip], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = train(clips, tmp_path / "whole")
    run = MotionRun(tmp_path / "parts", resume=False, workers=0)
    training = MotionTraining(clips, spec_of(), run)
    training.network.first[0].register_forward_hook(
        lambda *_: signal.raise_signal(signal.SIGTERM) if training.step == 1 else None
    )
    with caplog.at_level(logging.INFO), pytest.raises(Interrupted):
        training([])
    assert caplog.messages[-1] == "stopped at step 2 of 4; go on with --resume"
    assert not (run.folder / CHECKPOINT).exists()
    with pytest.raises(CheckpointError, match="has a run already; go on with --resume"):
        train(clips, run.folder)
    with pytest.raises(CheckpointError, match="is of a run with other options or clips"):
        train(clips, run.folder, resume=True, batch=3)
    parts = train(clips, run.folder, resume=True)
    assert not (run.folder / STATE).exists()
    expected, found = load_motion(whole), load_motion(parts)
    assert found[1] == expected[1] == spec_of()
    for name, tensor in expected[0].state_dict().items():
        assert torch.equal(found[0].state_dict()[name], tensor), name


def test_the_teacher_gives_its_flow_of_the_same_pictures(clips: list[CachedClip]) -> None:
    samples = MotionSamples(clips, spec_of(teacher="fast", still=0.0, scales=(1.0,)), FAST)
    for number in range(4):
        pictures, taught, known = samples[number]
        assert known
        assert (pictures.shape, taught.shape) == ((3, 64, 64), (4, 64, 64))
        assert samples[number].pictures.equal(pictures)
        u, v = (float(part.median()) for part in taught.split(2))
        # 176 x 132 px of the clip are the 64 x 64 of the view
        drifts = [np.array(drift) * (64 / 176, 64 / 132) for drift in DRIFTS.values()]
        mirrored = [drift * (-1, 1) for drift in drifts]
        distances = [np.hypot(u - x, v - y) for x, y in (*drifts, *mirrored)]
        assert min(distances) < 0.3
    assert not samples[0].pictures.equal(samples[1].pictures)


def test_drawn_motion_is_known_without_a_teacher(clips: list[CachedClip]) -> None:
    drawn = [MotionSamples(clips, spec_of(drift=1.0), None)[number] for number in range(8)]
    assert all(stack.known for stack in drawn)
    assert all(stack.pictures.shape == (3, 64, 64) for stack in drawn)
    assert sum(float(stack.taught.abs().mean()) > 0.05 for stack in drawn) > 4
    seen = MotionSamples(clips, spec_of(), None)[0]
    assert not seen.known
    assert not seen.taught.any()


def test_repeated_pictures_do_not_move() -> None:
    blank = np.zeros((2, 2), np.uint8)
    steps = [
        Step(Frame(blank, blank, blank, 0.04 * i, i), {FAST: np.full((2, 2, 2), i, np.uint8)})
        for i in range(6)
    ]
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(50):
        out = _repeat_some(steps, 1.0, rng)
        assert len(out) == 6
        assert out[-1].frame is steps[-1].frame  # the newest is always there
        for before, after in pairwise(out):
            moved = after.frame.index - before.frame.index
            assert moved in (0, 1)
            assert bool(after.flows) == bool(moved)
        seen.add(out[0].frame.index)
    assert len(seen) > 3
    assert [step.frame for step in _repeat_some(steps, 0.0, rng)] == [s.frame for s in steps]


def test_the_learning_rate_rises_and_falls() -> None:
    shares = [rate_share(step, 100) for step in range(100)]
    assert shares[0] == pytest.approx(0.2)
    assert max(shares) == shares[5] == 1.0
    assert shares[5:] == sorted(shares[5:], reverse=True)
    assert shares[-1] < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["none", "fast"])
def test_it_learns_the_motion_of_pictures(
    teacher: str, clips: list[CachedClip], tmp_path: Path
) -> None:
    """Without a teacher from the pictures alone; judged by how it explains them."""
    values = {"steps": 400, "batch": 4, "rate": 3e-3, "still": 0.0}
    spec = spec_of(teacher=teacher, **values)
    _, fit = MotionTraining(clips, spec, MotionRun(tmp_path, False, 0))(clips)
    assert fit is not None
    assert fit.stacks == 3
    assert fit.loss < 0.9 * fit.no_motion
