"""A training job: from clips and a recipe to the best checkpoint."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from edge.bundle.network import NetworkSpec
from edge.errors import CheckpointError
from edge.spec import Spec
from train.data.cache import fill_cache, open_cache
from train.data.clips import Clip
from train.models.malloc import keep_freed_memory
from train.models.spec import OverTime, network_spec
from train.recipe import Recipe
from train.training.distributed import Ranks, join_ranks
from train.training.head import HeadRun, one_thread, train_head
from train.training.leave_one_out import LeftOut, leave_one_out
from train.training.loop import RunConfig, train_network
from train.training.motion_network import check_motion
from train.training.resume import STATE_FILE
from train.training.run_folder import open_folder, run_name
from train.training.teacher import open_teacher

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """What to train, and on which clips.

    stream: one of train.streams.STREAMS. split: of the data set, recorded in the checkpoint. train:
    clips of other classes are negatives. validation: clips of other classes are not used here, but
    recorded as held out. motion: the spec of the method that measures flow, or a LearnedMotion.
    """

    stream: str
    classes: tuple[str, ...]
    split: int
    train: list[Clip]
    validation: list[Clip]
    recipe: Recipe
    motion: Spec


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How to run a job.

    out: folder in which the run's folder is created. resume: "" to start a new run, "auto" to
    resume if the run's folder has a state, or the folder or state file of a run. workers: data
    loading processes; None chooses by cores. save_every_s, keep: see RunConfig. cache: folder of
    the clips' frames and flow.
    """

    out: Path
    resume: str
    workers: int | None
    save_every_s: float
    keep: int
    cache: Path


def run_job(job: Job, options: JobOptions) -> Path:
    """Train one stream and return its best checkpoint. Under torchrun this is one of the processes.

    Raises DataError for clips that cannot be used, and as `train_network` does.
    """
    keep_freed_memory()
    _warn(job.recipe)
    with join_ranks() as ranks:
        spec = _spec(job)
        if ranks.leads and job.recipe.motion.checkpoint:
            check_motion(Path(job.recipe.motion.checkpoint), spec)
        folder = options.out / run_name(job.recipe, spec)
        state = _state_to_resume(folder, options.resume) if ranks.leads else None
        state = ranks.from_leader(state)
        teacher = open_teacher(job.recipe, spec)
        store = open_cache(options.cache, spec)
        shown = store if teacher is None else open_cache(options.cache, spec, teacher.spec)
        of_classes = [clip for clip in job.validation if clip.label in job.classes]
        with ranks.one_a_machine_first():
            train = fill_cache(shown, job.train, job.recipe.sampling.stack)
            validation = fill_cache(store, of_classes, job.recipe.sampling.stack)
        if job.recipe.optimiser.kind == "lbfgs":
            return train_head(HeadRun(spec, job.recipe, folder), train, validation, ranks)
        workers = _workers(ranks) if options.workers is None else options.workers
        config = RunConfig(folder, state, workers, options.save_every_s, options.keep)
        return train_network(train, validation, spec, job.recipe, config, ranks, teacher)


def run_leave_one_out(job: Job, options: JobOptions) -> LeftOut:
    """Train one stream on all clips of a job as `run_job` does, and leave each take out in turn.

    The recipe's optimiser must be lbfgs. Raises as `run_job` does.
    """
    keep_freed_memory()
    spec = _spec(job)
    folder = options.out / run_name(job.recipe, spec)
    open_folder(folder, resume=True)
    clips = fill_cache(open_cache(options.cache, spec), job.train, job.recipe.sampling.stack)
    with one_thread():
        return leave_one_out(HeadRun(spec, job.recipe, folder), clips)


def _warn(recipe: Recipe) -> None:
    """Say what is known to fail."""
    network = recipe.network
    if network.weights == "none" and network.batch_norm != "all":
        logger.warning(
            "network.batch_norm is %s and network.weights none: batch norms that are not trained "
            "pass on what they get, so that the loss of a network that starts from nothing grows "
            "without bound; give --set network.batch_norm=all, or weights",
            network.batch_norm,
        )


def _spec(job: Job) -> NetworkSpec:
    return network_spec(
        job.stream,
        job.classes,
        job.motion,
        job.split,
        job.train,
        job.validation,
        job.recipe.network.backbone,
        job.recipe.network.weights,
        job.recipe.network.size_px,
        job.recipe.sampling.stack,
        _over_time(job.recipe),
    )


def _over_time(recipe: Recipe) -> OverTime | None:
    network, sampling = recipe.network, recipe.sampling
    if sampling.frames == 1:
        return None
    return OverTime(network.shift, sampling.frames, sampling.stride)


def _state_to_resume(folder: Path, resume: str) -> Path | None:
    """The state file for --resume. Raises CheckpointError if there is none."""
    state = open_folder(folder, bool(resume))
    if resume in ("", "auto"):
        return state if resume and state.is_file() else None
    file = Path(resume)
    file = file / STATE_FILE if file.is_dir() else file
    if not file.is_file():
        raise CheckpointError(f"{file}: no state to go on from; give the folder of a run")
    return file


def _workers(ranks: Ranks) -> int:
    """How many processes load data: one beside a network on the CPU, which needs the cores itself;
    beside a GPU as many as there are cores for this process, 8 at most.
    """
    if ranks.device.type == "cpu":
        return 1
    cores = len(os.sched_getaffinity(0))
    return min(8, max(cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1))
