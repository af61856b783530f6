"""Training runs: the files they write, resuming, and the errors that stop them."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edge.errors import CheckpointError, TrainingError
from edge.motion.spec import PRESETS
from tests.support import tiny
from tests.support.command import TWOSTREAM, Running, assert_refused, twostream
from tests.support.logged import logged
from tests.support.paths import REPOSITORY
from tests.support.waiting import BOUND_S
from train.data.splits import hold_out
from train.data.ucf101 import load_split
from train.models.checkpoint import epoch_files, load_checkpoint, read_metadata
from train.recipe import load_recipe
from train.training.job import Job, JobOptions, run_job
from train.training.loop import has_diverged
from train.training.resume import STATE_FILE

RUN = "heavy-spatial-efficientnet_lite0-adamw-3e-04-none"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_dataset(tmp_path_factory.mktemp("ucf"))


def train(
    data: Path,
    out: Path,
    *changes: str,
    stream: str = "spatial",
    resume: str = "",
    classes: tuple[str, ...] = tiny.CLASSES,
    keep: int = 3,
) -> tuple[Path, str]:
    """(the best checkpoint, the log)."""
    recipe = load_recipe("default", stream, (*tiny.CHANGES, *changes))
    clips, held = hold_out(load_split(data, 1).train, classes, 0.15)
    job = Job(stream, classes, 1, clips, held, recipe, PRESETS["fast"])
    options = JobOptions(out, resume, 0, 1e9, keep, data / "cache")
    with logged() as lines:
        best = run_job(job, options)
    return best, "\n".join(lines)


def arguments(data: Path, out: Path, *changes: str) -> list[str]:
    options = ["--classes", ",".join(tiny.CLASSES), "--cache", str(data / "cache")]
    where = ["--out", str(out), "--workers", "0", "--save-every", "0"]
    return ["train", "spatial", str(data), *options, *where, *tiny.options(*changes)]


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two epochs."""
    return train(data, tmp_path_factory.mktemp("unbroken") / "out")[0].parent


@pytest.mark.slow
def test_a_run_writes_checkpoints_curve_and_events(unbroken: Path) -> None:
    assert unbroken.name == RUN
    names = sorted(path.name for path in unbroken.iterdir())
    first, second = (file.name for file in epoch_files(unbroken))
    assert names == sorted([first, second, STATE_FILE, "curve.png", "events"])
    _, spec, _ = load_checkpoint(unbroken)
    metadata = read_metadata(unbroken / second)
    assert [row["epoch"] for row in json.loads(metadata["history"])] == [1.0, 2.0]
    best, current = second.removesuffix(".safetensors").split("-")[1:]
    assert float(current) == round(json.loads(metadata["history"])[1]["top1"], 5)
    assert float(best) in {round(row["top1"], 5) for row in json.loads(metadata["history"])}
    assert spec.classes == tiny.CLASSES
    assert json.loads(metadata["recipe"])["schedule"]["epochs"] == 2
    assert spec.input.interval_s == PRESETS["fast"].interval_s
    assert len(metadata["train_sha256"]) == 64
    seen = {name.partition("/")[0] for name in spec.train_clips}
    held = {name.partition("/")[0] for name in spec.validation_clips}
    assert seen == {"Diving", "Drumming", "Archery"}
    assert held == {"Diving", "Drumming", "Bowling"}


# Kills the process, as kill -9 or a power cut would, once the state of that step is written.
KILLED = """
import os, signal, sys
import train.training.run_folder as run_folder
from edge.cli import main
write_state = run_folder.write_state
def write_and_die(path, learner, progress, *rest):
    write_state(path, learner, progress, *rest)
    if (progress.epoch, progress.step) == (2, 1):
        os.kill(os.getpid(), signal.SIGKILL)
run_folder.write_state = write_and_die
sys.argv = ["twostream", *sys.argv[1:]]
main()
"""


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_checkpoints(
    data: Path, unbroken: Path, tmp_path: Path
) -> None:
    """Killed in the middle of the second epoch, then --resume auto."""
    words = [sys.executable, "-c", KILLED, *arguments(data, tmp_path / "out")]
    done = subprocess.run(
        words, cwd=REPOSITORY, capture_output=True, text=True, timeout=5 * BOUND_S, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    _, log = train(data, tmp_path / "out", resume="auto")
    assert "going on from epoch 2, step 1" in log
    _same(tmp_path / "out" / RUN, unbroken)


def _same(folder: Path, other: Path) -> None:
    """Both runs have the same checkpoints, bit for bit."""
    ours, theirs = epoch_files(folder), epoch_files(other)
    assert [file.name for file in ours] == [file.name for file in theirs] != []
    for one, two in zip(ours, theirs, strict=True):
        assert read_metadata(one) == read_metadata(two)
        a, b = load_file(one), load_file(two)
        assert a.keys() == b.keys() != set()
        assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_sigint_saves_the_state_and_names_the_command_to_resume(data: Path, tmp_path: Path) -> None:
    state = tmp_path / RUN / STATE_FILE
    with Running(*arguments(data, tmp_path, "schedule.epochs=4000")) as run:
        run.wait_until(state.is_file)
        log = run.stop(signal.SIGINT, code=130)
    assert re.search(r"stopped at epoch \d+, step \d+ of \d+; go on with --resume auto", log)


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(data: Path, tmp_path: Path) -> None:
    """torchrun on gloo, with the same global batch: the same loss curve, written once."""
    still = ("network.batch_norm=frozen", "optimiser.average=0.5")
    alone, _ = train(data, tmp_path / "alone", *still)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node=2", "--no-python"]
    done = subprocess.run(
        [*command, str(TWOSTREAM), *arguments(data, tmp_path / "two", *still)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=5 * BOUND_S,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "two" / RUN
    assert len(epoch_files(folder)) == 2
    assert done.stderr.count("best checkpoint") == 1
    curves = [load_checkpoint(path)[2] for path in (alone.parent, folder)]
    for one, two in zip(*curves, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-4)
        assert two["log_likelihood"] == pytest.approx(one["log_likelihood"], abs=1e-3)


@pytest.mark.slow
def test_the_newest_and_the_best_checkpoint_are_kept(data: Path, tmp_path: Path) -> None:
    best, _ = train(data, tmp_path / "out", "schedule.epochs=4", keep=1)
    files = epoch_files(best.parent)
    assert best in files
    assert [file.name[:3] for file in files] == sorted({best.name[:3], "004"})
    history = json.loads(read_metadata(files[-1])["history"])
    scores = [row["log_likelihood"] for row in history]
    assert int(best.name[:3]) == scores.index(max(scores)) + 1


@pytest.mark.slow
def test_a_run_without_progress_stops_early(data: Path, tmp_path: Path) -> None:
    """At a rate of nearly nothing the validation top-1 stays what it was."""
    slow = ("optimiser.rate=1e-12", "validation.choose_by=top1", "validation.patience=2")
    best, log = train(data, tmp_path / "out", *slow, "schedule.epochs=9")
    assert "stopped early: no better epoch in 2" in log
    assert [file.name[:3] for file in epoch_files(best.parent)] == ["001", "002", "003"]
    assert best.name.startswith("001")


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["spatial", "temporal"])
def test_the_other_recipe_choices_train(stream: str, data: Path, tmp_path: Path) -> None:
    choices = (
        "sampling.segments=3",
        "network.batch_norm=partial",
        "network.freeze=1",
        "optimiser.kind=sgd",
        "optimiser.precision=mixed",
        "schedule.kind=step",
        "schedule.steps=[1]",
        "loss.class_weights=balanced",
        "loss.mixup=0.3",
        "augmentation.place=random",
        "augmentation.size_px=48",
        "augmentation.full_size_epochs=1",
        "validation.choose_by=last",
    )
    best, _ = train(data, tmp_path / "out", *choices, stream=stream)
    assert best.name.startswith("002")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "classes", "says"),
    [
        (("schedule.epochs=3",), tiny.CLASSES, "--set schedule.epochs=2"),
        ((), ("Diving", "Archery"), "another classes"),
        (("network.size_px=96",), tiny.CLASSES, "another geometry"),
    ],
)
def test_resuming_from_the_state_of_another_run_is_refused(
    changes: tuple[str, ...],
    classes: tuple[str, ...],
    says: str,
    data: Path,
    unbroken: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(CheckpointError, match=says):
        train(data, tmp_path / "out", *changes, resume=str(unbroken), classes=classes)


@pytest.mark.slow
def test_a_run_is_not_overwritten_without_resume(data: Path, unbroken: Path) -> None:
    before = {path.name: path.stat().st_mtime for path in unbroken.iterdir()}
    with pytest.raises(CheckpointError, match="go on with --resume auto"):
        train(data, unbroken.parent)
    assert {path.name: path.stat().st_mtime for path in unbroken.iterdir()} == before


@pytest.mark.slow
def test_an_infinite_loss_names_the_batch(data: Path, tmp_path: Path) -> None:
    wild = ("optimiser.rate=1e30", "optimiser.clip_norm=0.0", "schedule.warmup_epochs=0.0")
    with pytest.raises(TrainingError) as fault:
        train(data, tmp_path / "out", *wild, "schedule.epochs=20")
    for text in ("the loss is ", "at epoch", "the batch is ", ".avi at frame ", "optimiser.rate="):
        assert text in str(fault.value)
    assert "\n" not in str(fault.value)


# The process limits itself, to stand for a small disk or a small memory.
LIMITED = """
import resource, sys
from edge.cli import main
resource.setrlimit(resource.{limit}, ({value}, {value}))
sys.argv = ["twostream", *{arguments!r}]
main()
"""


def limited(limit: str, value: int, words: list[str]) -> subprocess.CompletedProcess[str]:
    code = LIMITED.format(limit=limit, value=value, arguments=words)
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=5 * BOUND_S,
        check=False,
    )


def test_a_loss_far_above_that_of_equal_scores_has_diverged() -> None:
    assert not has_diverged(math.log(101), 101)  # knows nothing
    assert not has_diverged(2 * math.log(2), 2)
    assert has_diverged(6.8e7, 101)
    assert has_diverged(math.nan, 2)
    assert has_diverged(math.inf, 2)


@pytest.mark.slow
def test_a_diverged_epoch_is_not_called_the_best(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.training.loop.DIVERGED", 0.01)
    log = train(data, tmp_path / "out", "schedule.epochs=1", "network.batch_norm=partial")[1]
    assert "epoch 1  loss" in log
    assert "best so far" not in log
    assert "training diverges; lower the rate (--set optimiser.rate=0.0001)" in log
    assert "network.batch_norm is partial and network.weights none" in log


@pytest.mark.slow
def test_a_full_disk_leaves_earlier_checkpoints_whole(
    data: Path, unbroken: Path, tmp_path: Path
) -> None:
    """A file may grow to 20 MB: the checkpoint of 13 MB fits, the state of 40 MB does not."""
    words = [*arguments(data, tmp_path, "schedule.epochs=1"), "--save-every", "1000"]
    done = limited("RLIMIT_FSIZE", 20_000_000, words)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("twostream: ")
    assert STATE_FILE in last
    assert "checkpoints written before are whole" in last
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / RUN).glob("*.part"))
    assert epoch_files(tmp_path / RUN)
    for file in epoch_files(tmp_path / RUN):
        load_checkpoint(file)


@pytest.mark.slow
def test_too_little_memory_suggests_a_smaller_batch(data: Path, tmp_path: Path) -> None:
    words = arguments(
        data, tmp_path, "optimiser.batch=256", "sampling.repeats=64", "network.size_px=224"
    )
    done = limited("RLIMIT_AS", 6 << 30, words)
    assert done.returncode == 2, done.stderr[-2000:]
    assert "does not fit the memory of cpu; try --set optimiser.batch=128" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unwritable_run_folder_is_named(tmp_path: Path) -> None:
    from train.training.run_folder import open_folder

    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="cannot be written to"):
        open_folder(tmp_path / "file" / "run", resume=False)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_an_unknown_class_is_a_one_line_error(data: Path, tmp_path: Path) -> None:
    done = twostream("train", "spatial", data, "--classes", "Diving,Yodelling", "--out", tmp_path)
    assert_refused(done, "Yodelling", "Drumming")


@pytest.mark.slow
def test_a_missing_state_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="none: no state to go on from"):
        train(data, tmp_path / "out", resume=str(tmp_path / "none"))
