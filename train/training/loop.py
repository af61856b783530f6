"""The training loop of one network, from its initial weights to its best checkpoint."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch
from torch.utils.data import DataLoader

from edge.bundle.network import NetworkSpec
from edge.errors import TrainingError
from train.data.cache import CachedClip
from train.models.checkpoint import Origin, find_checkpoint
from train.recipe import Recipe
from train.training.dataset import Batches, Item, TrainingSet
from train.training.distributed import Ranks
from train.training.learner import build_learner
from train.training.monitor import Monitor, write_curve
from train.training.optim import class_weights
from train.training.resume import Progress, restore
from train.training.run_folder import RunFolder, best_epoch
from train.training.step import Stepper
from train.training.stop import Interrupted, stop_signals
from train.training.teacher import Teacher
from train.training.validation import Validation

logger = logging.getLogger(__name__)

IMAGES_EVERY = 500  # steps
LISTED = 8  # samples of a batch in a message
DIVERGED = 10  # times the loss of equal scores for all classes


@dataclass(frozen=True, slots=True)
class RunConfig:
    """The options of a run that do not belong to the recipe.

    folder: of this run. resume_from: the state file to resume from, or None. workers: data loading
    processes; 0 loads in this one. save_every_s: seconds between saves of the training state.
    keep: how many of the newest checkpoints to keep besides the best.
    """

    folder: Path
    resume_from: Path | None
    workers: int
    save_every_s: float
    keep: int


def train_network(
    train: list[CachedClip],
    validation: list[CachedClip],
    spec: NetworkSpec,
    recipe: Recipe,
    config: RunConfig,
    ranks: Ranks,
    teacher: Teacher | None = None,
) -> Path:
    """Train, in each process of the run, and return the best checkpoint.

    train: clips of the network's classes, and of other classes as negatives. validation: clips of
    its classes alone. teacher: teaches by its scores. Raises TrainingError if the loss is not
    finite or a batch does not fit into memory, CheckpointError if a checkpoint cannot be written or
    resumed from, and Interrupted after SIGINT or SIGTERM.
    """
    training = _Training(train, validation, spec, recipe, config, ranks, teacher)
    training.run()
    return ranks.from_leader(find_checkpoint(config.folder) if ranks.leads else config.folder)


class _Training:
    """A training run in one of its processes. The leading process writes the files."""

    def __init__(
        self,
        train: list[CachedClip],
        validation: list[CachedClip],
        spec: NetworkSpec,
        recipe: Recipe,
        config: RunConfig,
        ranks: Ranks,
        teacher: Teacher | None,
    ) -> None:
        self.recipe, self.config, self.ranks = recipe, config, ranks
        self.samples = TrainingSet(train, spec, recipe, None if teacher is None else teacher.spec)
        self.batches = _batches(self.samples, recipe, ranks)
        self.validate = Validation(validation, spec, recipe, ranks)
        self.learner = build_learner(spec, recipe, ranks)
        origin = Origin.of(recipe.to_json(), self.learner.source, train, validation)
        choose_by = recipe.validation.choose_by
        self.folder = RunFolder(config.folder, spec, origin, choose_by, config.keep)
        self.progress = Progress() if config.resume_from is None else self._resume()
        weights = class_weights(self.samples.counts, recipe.loss.class_weights)
        network = None if teacher is None else teacher.network
        self.stepper = Stepper(self.learner, recipe, weights, ranks, network)

    def run(self) -> None:
        """Train to the last epoch, or until early stopping."""
        progress, epochs = self.progress, self.recipe.schedule.epochs
        loader = _loader(self.samples, self.batches, self.config.workers, self.ranks.device)
        with stop_signals() as stopped, self._monitor() as monitor:
            while progress.epoch <= epochs and not self._out_of_patience():
                started = time.monotonic()
                self._run_epoch(loader, monitor, stopped)
                self._end_epoch(monitor, started)
            if monitor is not None and progress.epoch <= epochs:
                logger.info("stopped early: no better epoch in %d", self.recipe.validation.patience)

    def _run_epoch(
        self, loader: DataLoader[Item], monitor: Monitor | None, stopped: Callable[[], bool]
    ) -> None:
        """Take the steps that are left of the current epoch, and save the state now and then."""
        progress, steps = self.progress, len(self.batches)
        self.batches.start_at(progress.epoch, progress.step)
        self.stepper.training_mode()
        saved = ended = time.monotonic()
        for item in loader:
            loaded = time.monotonic()
            loss = self.stepper(item, progress.epoch, progress.step, steps)
            if not math.isfinite(loss):
                raise self._infinite_loss(loss)
            progress.count_step(loss)
            now = time.monotonic()
            if monitor is not None:
                self._report_step(monitor, item, loss, now - ended, loaded - ended)
            if stopped():
                self._save()
                text = "stopped at epoch %d, step %d of %d; go on with --resume auto"
                logger.info(text, progress.epoch, progress.step, steps)
                raise Interrupted
            if now - saved >= self.config.save_every_s:
                self._save()
                saved = time.monotonic()
            ended = time.monotonic()

    def _report_step(
        self, monitor: Monitor, item: Item, loss: float, seconds: float, loading_s: float
    ) -> None:
        """Report a step. seconds: its duration, of which loading_s were spent waiting for data."""
        number = self._steps_done()
        scalars = {
            "loss": loss,
            "rate": self.learner.optimiser.param_groups[0]["lr"],
            "samples_per_s": self.batches.batch / seconds,
            "data_share": loading_s / seconds,
        }
        monitor.step(number, scalars)
        if number % IMAGES_EVERY == 1:
            monitor.images(number, item[0][:, 0], item[1], self.folder.spec)

    def _end_epoch(self, monitor: Monitor | None, started: float) -> None:
        """Validate, then write the epoch's checkpoint, the state and the learning curve.

        started: time.monotonic() at the start of the epoch.
        """
        network, history = self.learner.result, self.progress.history
        self.progress.finish_epoch(self.validate(network))
        if self.ranks.leads:
            self.folder.write_epoch(network, history)
            self._save()
            write_curve(history, self.config.folder / "curve.png")
        if monitor is not None:
            seconds = time.monotonic() - started
            diverged = has_diverged(history[-1]["loss"], len(self.folder.spec.classes))
            best = self.folder.newest_is_best(history) and not diverged
            monitor.epoch(history[-1], seconds, best)
            if diverged:
                rate = self.recipe.optimiser.rate
                logger.warning(
                    "the loss is far above that of a network that knows nothing: training "
                    "diverges; lower the rate (--set optimiser.rate=%.1g)",
                    rate / 3,
                )

    def _steps_done(self) -> int:
        """Steps of the whole run."""
        return (self.progress.epoch - 1) * len(self.batches) + self.progress.step

    def _out_of_patience(self) -> bool:
        """Whether the recipe stops the run early."""
        patience, history = self.recipe.validation.patience, self.progress.history
        if not patience or not history:
            return False
        return len(history) - 1 - best_epoch(history, self.folder.choose_by) >= patience

    def _save(self) -> None:
        if self.ranks.leads:
            self.folder.write_state(self.learner, self.progress)

    def _resume(self) -> Progress:
        """Load the state to resume from, in all processes."""
        path = self.config.resume_from
        assert path is not None
        state = self.ranks.from_leader(self.folder.load_state(path) if self.ranks.leads else None)
        assert state is not None
        restore(self.learner, state, path)
        epoch, step = state.progress.epoch, state.progress.step
        logger.info("going on from epoch %d, step %d of %d", epoch, step, len(self.batches))
        return state.progress

    def _infinite_loss(self, loss: float) -> TrainingError:
        progress, rate = self.progress, self.recipe.optimiser.rate
        draws = self.batches.draws(progress.epoch, progress.step)
        listed = "; ".join(self.samples.describe(draw) for draw in draws[:LISTED])
        more = f" and {len(draws) - LISTED} more" if len(draws) > LISTED else ""
        return TrainingError(
            f"the loss is {loss} at epoch {progress.epoch}, step {progress.step + 1}; the batch is "
            f"{listed}{more}. {self.config.folder} has the state saved before; look at these "
            f"clips, or lower the rate (--set optimiser.rate={rate / 3:.1g})"
        )

    def _monitor(self) -> AbstractContextManager[Monitor | None]:
        """A monitor in the leading process; None in the other processes."""
        if not self.ranks.leads:
            return nullcontext()
        spec, steps = self.folder.spec, len(self.batches) * self.recipe.schedule.epochs
        title = f"{spec.stream} {spec.backbone}"
        return Monitor(self.config.folder, title, steps, self._steps_done())


def has_diverged(loss: float, classes: int) -> bool:
    """Whether a mean loss is not finite, or DIVERGED times that of equal scores for all classes."""
    return not loss <= DIVERGED * math.log(classes)


def _batches(samples: TrainingSet, recipe: Recipe, ranks: Ranks) -> Batches:
    if recipe.optimiser.batch % ranks.world:
        raise TrainingError(
            f"a batch of {recipe.optimiser.batch} cannot be shared evenly by {ranks.world} "
            "processes; set optimiser.batch to a multiple"
        )
    if len(samples) < ranks.world:
        raise TrainingError(
            f"{len(samples)} samples an epoch are too few for {ranks.world} processes"
        )
    return Batches(len(samples), recipe.optimiser.batch, recipe.seed, ranks.rank, ranks.world)


def _loader(
    samples: TrainingSet, batches: Batches, workers: int, device: torch.device
) -> DataLoader[Item]:
    return DataLoader(
        samples,
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        worker_init_fn=_one_thread,
    )


def _one_thread(_: int) -> None:
    """Let each worker use one thread, since several workers share the cores."""
    cv2.setNumThreads(0)
