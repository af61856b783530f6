"""A training job (clips, classes, recipe), and how it is run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edge.bundle.network import NetworkSpec
from edge.errors import CheckpointError
from edge.spec import Spec
from train.data.cache import fill_cache, open_cache
from train.data.clips import Clip
from train.models.malloc import keep_freed_memory
from train.models.spec import network_spec
from train.recipe import Recipe
from train.training.distributed import Ranks, join_ranks
from train.training.loop import RunConfig, train_network
from train.training.resume import STATE_FILE
from train.training.run_folder import open_folder, run_name


@dataclass(frozen=True, slots=True)
class Job:
    """What to train, and on which clips.

    Clips of other classes may be among both lists; those of `validation` choose nothing and are
    only kept from training. stream: one of train.streams.STREAMS; motion: how flow is measured.
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

    out: the run's folder is made in it. resume: "" to begin, "auto" to go on where there is
    something to go on from, or the folder of a run. workers: None for what suits the machine.
    """

    out: Path
    resume: str
    workers: int | None
    save_every_s: float
    keep: int
    cache: Path


def run_job(job: Job, options: JobOptions) -> Path:
    """Train one stream and return its best checkpoint. Under torchrun, one of several processes."""
    keep_freed_memory()
    with join_ranks() as ranks:
        spec = _spec(job)
        folder = options.out / run_name(job.recipe, spec)
        state = _state_to_go_on_from(folder, options.resume) if ranks.leads else None
        state = ranks.from_leader(state)
        store = open_cache(options.cache, spec)
        chosen_by = [clip for clip in job.validation if clip.label in job.classes]
        with ranks.one_a_machine_first():
            train = fill_cache(store, job.train, job.recipe.sampling.stack)
            validation = fill_cache(store, chosen_by, job.recipe.sampling.stack)
        workers = _workers(ranks) if options.workers is None else options.workers
        run = RunConfig(folder, state, workers, options.save_every_s, options.keep)
        return train_network(train, validation, spec, job.recipe, run, ranks)


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
    )


def _state_to_go_on_from(folder: Path, resume: str) -> Path | None:
    """The state file for --resume. Raises CheckpointError if there is none."""
    state = open_folder(folder, bool(resume))
    if resume in ("", "auto"):
        return state if resume and state.is_file() else None
    given = Path(resume)
    given = given / STATE_FILE if given.is_dir() else given
    if not given.is_file():
        raise CheckpointError(f"{given}: no state to go on from; give the folder of a run")
    return given


def _workers(ranks: Ranks) -> int:
    """Where the network runs on the CPU it needs the cores itself, and a worker for the samples is
    enough; a GPU leaves them free.
    """
    cores = len(os.sched_getaffinity(0))
    if ranks.device.type == "cpu":
        return 1
    return min(8, max(cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1))
