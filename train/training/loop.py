"""The training loop of one network, from its initial weights to its best checkpoint."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import cv2
import numpy as np
import torch
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.utils.data import DataLoader

from edge.bundle.network import NetworkSpec
from edge.decision.fusion import Scores
from edge.errors import TrainingError
from train.data.cache import CachedClip
from train.evaluation.metrics import log_likelihood, top_k
from train.evaluation.protocol import mean_scores, torch_network, true_classes
from train.models.backbone import (
    freeze_batch_norm,
    freeze_stages,
    pretrained_network,
    split_parameters,
)
from train.models.checkpoint import (
    History,
    Origin,
    data_hash,
    find_checkpoint,
    load_checkpoint,
)
from train.models.qat import round_layers
from train.recipe import Recipe
from train.training.dataset import Batches, Item, TrainingSet
from train.training.distributed import Ranks
from train.training.monitor import Monitor, write_curve
from train.training.optim import build_optimiser, class_weights, running_mean
from train.training.resume import STATE_FILE, Parts, Position, load_state, restore, write_state
from train.training.run_folder import best_epoch, keep_epoch
from train.training.step import Stepper, mixed_type

logger = logging.getLogger(__name__)

PICTURES_EVERY = 500  # steps


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


class Interrupted(KeyboardInterrupt):
    """A signal stopped the run; its state has been saved and that was logged."""


def train_network(
    train: list[CachedClip],
    validation: list[CachedClip],
    spec: NetworkSpec,
    recipe: Recipe,
    run: RunConfig,
    ranks: Ranks,
) -> Path:
    """Train and return the best checkpoint, which the leading process has written.

    `train` may include clips of other classes (negatives); `validation` may not. Raises
    TrainingError if the loss is not finite or memory is too small, CheckpointError if a checkpoint
    cannot be written or resumed from, Interrupted after SIGINT or SIGTERM.
    """
    training = _Training(train, validation, spec, recipe, run, ranks)
    training.run()
    return ranks.from_leader(find_checkpoint(run.folder) if ranks.leads else run.folder)


class _Training:
    """The state of a training run."""

    def __init__(
        self,
        train: list[CachedClip],
        validation: list[CachedClip],
        spec: NetworkSpec,
        recipe: Recipe,
        config: RunConfig,
        ranks: Ranks,
    ) -> None:
        self.validation, self.spec, self.recipe = validation, spec, recipe
        self.config, self.ranks = config, ranks
        self.samples = TrainingSet(train, spec, recipe)
        self.batches = _batches(self.samples, recipe, ranks)
        self.position = Position()
        self.epoch_started = time.monotonic()
        self.history: History = []
        self.parts, kept_in_eval, source = build_parts(spec, recipe, ranks)
        self.origin = Origin(recipe.to_json(), source, data_hash(train), data_hash(validation))
        if config.resume_from is not None:
            self._go_on_from(config.resume_from)
        weights = class_weights(self.samples.counts, recipe.loss.class_weights)
        self.stepper = Stepper(self.parts, kept_in_eval, recipe, weights, ranks)

    def run(self) -> None:
        """Train to the last epoch, or until early stopping."""
        steps, epochs = len(self.batches), self.recipe.schedule.epochs
        done = (self.position.epoch - 1) * steps + self.position.step
        loader = _loader(self.samples, self.batches, self.config.workers, self.ranks.device)
        title = f"{self.spec.stream} {self.spec.backbone}"
        with _asked_to_stop() as stopping, self._monitor(title, steps * epochs, done) as monitor:
            while self.position.epoch <= epochs and not self._had_enough():
                self._run_epoch(loader, monitor, stopping)
                self._end_epoch(monitor)
            if monitor is not None and self.position.epoch <= epochs:
                logger.info("stopped early: no better epoch in %d", self.recipe.validation.patience)

    def _run_epoch(
        self, loader: DataLoader[Item], monitor: Monitor | None, stopping: Callable[[], bool]
    ) -> None:
        position, steps = self.position, len(self.batches)
        self.epoch_started = time.monotonic()
        self.batches.start_at(position.epoch, position.step)
        self.stepper.training_mode()
        saved = waited_from = time.monotonic()
        for item in loader:
            ready = time.monotonic()
            loss = self.stepper(item, position.epoch, position.step, steps)
            if not math.isfinite(loss):
                raise self._bad_loss(loss)
            position.step += 1
            position.loss_sum += loss
            now = time.monotonic()
            if monitor is not None:
                self._show(monitor, item, loss, now - waited_from, ready - waited_from)
            if stopping():
                self._save()
                logger.info(
                    "stopped at epoch %d, step %d of %d; go on with --resume auto",
                    position.epoch,
                    position.step,
                    steps,
                )
                raise Interrupted
            if now - saved >= self.config.save_every_s:
                self._save()
                saved = time.monotonic()
            waited_from = time.monotonic()

    def _show(
        self, monitor: Monitor, item: Item, loss: float, seconds: float, waited_s: float
    ) -> None:
        """Report the last step, which took `seconds`, of which it waited `waited_s` for data."""
        number = (self.position.epoch - 1) * len(self.batches) + self.position.step
        scalars = {
            "loss": loss,
            "rate": self.parts.optimiser.param_groups[0]["lr"],
            "samples_per_s": self.batches.batch / seconds,
            "data_share": waited_s / seconds,
        }
        monitor.step(number, scalars)
        if number % PICTURES_EVERY == 1:
            monitor.pictures(number, item[0][:, 0], item[1], self.spec)

    def _end_epoch(self, monitor: Monitor | None) -> None:
        """Validate, then write the epoch's checkpoint and the state to resume from."""
        position = self.position
        row = {"epoch": float(position.epoch), "loss": position.loss_sum / len(self.batches)}
        self.history.append(row | self._validate())
        self.position = Position(position.epoch + 1)
        chosen = self.recipe.validation.choose_by
        if self.ranks.leads:
            network = self._network_to_keep()
            keep_epoch(
                self.config.folder,
                network,
                self.spec,
                self.origin,
                self.history,
                chosen,
                self.config.keep,
            )
            self._save()
            write_curve(self.history, self.config.folder / "curve.png")
        if monitor is not None:
            kept = best_epoch(self.history, chosen) == len(self.history) - 1
            monitor.epoch(self.history[-1], time.monotonic() - self.epoch_started, kept)

    def _network_to_keep(self) -> nn.Module:
        mean = self.parts.mean
        return self.parts.network if mean is None else mean.module  # type: ignore[return-value]

    def _validate(self) -> dict[str, float]:
        """Top-1 and mean log-likelihood on the validation clips, shared out among the processes."""
        if not self.validation:
            return {}
        network = self._network_to_keep().eval()
        own = self.validation[self.ranks.rank :: self.ranks.world]
        samples = self.recipe.validation.samples
        rows: list[Scores] = []
        if own:
            stack = self.recipe.sampling.stack
            rows = list(mean_scores(own, self.spec, torch_network(network), samples, stack))
        parts = self.ranks.gather((rows, true_classes(own, self.spec.classes)))
        scores = np.stack([row for part, _ in parts for row in part])
        truth = np.concatenate([part for _, part in parts])
        return {
            "top1": top_k(scores, truth, 1),
            "log_likelihood": log_likelihood(scores, truth),
        }

    def _had_enough(self) -> bool:
        patience, history = self.recipe.validation.patience, self.history
        if not patience or not history:
            return False
        best = best_epoch(history, self.recipe.validation.choose_by)
        return len(history) - 1 - best >= patience

    def _save(self) -> None:
        if self.ranks.leads:
            path = self.config.folder / STATE_FILE
            write_state(path, self.parts, self.position, self.history, self.spec, self.origin)

    def _go_on_from(self, path: Path) -> None:
        state = load_state(path, self.spec, self.origin) if self.ranks.leads else None
        state = self.ranks.from_leader(state)
        assert state is not None
        restore(self.parts, state, path)
        self.position, self.history = state.position, state.history
        epoch, step = state.position.epoch, state.position.step
        logger.info("going on from epoch %d, step %d of %d", epoch, step, len(self.batches))

    def _bad_loss(self, loss: float) -> TrainingError:
        position = self.position
        draws = self.batches.draws(position.epoch, position.step)
        shown = "; ".join(self.samples.describe(draw) for draw in draws[:8])
        more = f" and {len(draws) - 8} more" if len(draws) > 8 else ""
        return TrainingError(
            f"the loss is {loss} at epoch {position.epoch}, step {position.step + 1}; the batch is "
            f"{shown}{more}. {self.config.folder} has the state saved before; look at these clips, "
            f"or lower the rate (--set optimiser.rate={self.recipe.optimiser.rate / 3:.1g})"
        )

    @contextmanager
    def _monitor(self, title: str, steps: int, done: int) -> Iterator[Monitor | None]:
        """A monitor in the leading process; None in the others."""
        if not self.ranks.leads:
            yield None
            return
        with Monitor(self.config.folder, title, steps, done) as monitor:
            yield monitor


def build_parts(
    spec: NetworkSpec, recipe: Recipe, ranks: Ranks
) -> tuple[Parts, list[nn.Module], str]:
    """A network with its initial weights and its optimiser, the modules that stay in evaluation
    mode, and the source of the weights as text.
    """
    torch.manual_seed(recipe.seed)
    own, device = recipe.network, ranks.device
    if own.quantise:
        network, _, _ = load_checkpoint(Path(own.weights))
        source = f"checkpoint {Path(own.weights).name}, with INT8 rounding"
        logger.info("%d layers round their inputs and weights", round_layers(network))
    else:
        network, source = pretrained_network(
            spec.backbone, spec.channels, len(spec.classes), own.dropout, own.weights
        )
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if ranks.world > 1 and device.type == "cuda":
        # first, since it creates new layers; timm's, since torch's loses their activations
        network = convert_sync_batchnorm(network)
    kept = freeze_stages(network, own.freeze) + freeze_batch_norm(network, own.batch_norm)
    body, head = split_parameters(network)
    optimiser = build_optimiser(body, head, recipe.optimiser)
    mean = running_mean(network, recipe.optimiser.average) if recipe.optimiser.average else None
    scaled = recipe.optimiser.precision == "mixed" and mixed_type(device) == torch.float16
    scaler = torch.amp.GradScaler(device.type, enabled=scaled)
    return Parts(network, mean, optimiser, scaler), kept, source


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


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """A function that tells whether SIGINT or SIGTERM came, so that the current step can finish."""
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt  # a second signal stops at once
        received.append(number)

    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, note) for number in signals]
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
