"""Trains a network of motion, without labels.

OUT/motion.safetensors    the network, with its specification and recipe
OUT/resume.safetensors    the state of a run that was stopped: weights, optimiser, step
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from edge.errors import CheckpointError, TrainingError
from edge.motion.spec import PRESETS
from edge.spec import Spec
from edge.terminal import track
from train.data.cache import CachedClip
from train.models.checkpoint import FORMAT, read_tensors, write_tensors
from train.models.motion_checkpoint import (
    MOTION_KEY,
    MotionFit,
    MotionNetSpec,
    MotionRecipe,
    read_motion_spec,
    write_motion,
)
from train.models.motionnet import MotionNet
from train.training.motion_data import MotionSamples, Stack, held_out_stacks
from train.training.motion_loss import motion_loss, photometric_loss
from train.training.stop import Interrupted, stop_signals

logger = logging.getLogger(__name__)

CHECKPOINT, STATE = "motion.safetensors", "resume.safetensors"
LOG_EVERY = 100  # steps
SAVE_EVERY_S = 300.0
WARMUP = 0.05  # share of the steps in which the learning rate rises


@dataclass(frozen=True, slots=True)
class MotionRun:
    """folder: of the run. resume: go on from its state, if there is one. workers: data loading
    processes; 0 loads in this one."""

    folder: Path
    resume: bool
    workers: int


def teacher_of(recipe: MotionRecipe) -> Spec | None:
    """The method of motion that teaches."""
    return None if recipe.teacher == "none" else PRESETS[recipe.teacher]


def rate_share(step: int, steps: int) -> float:
    """The learning rate of a step, from 0, as a share of its peak."""
    warmup = max(round(WARMUP * steps), 1)
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))) / 2


class MotionTraining:
    """A run in this process, on a GPU if there is one."""

    def __init__(self, train: list[CachedClip], spec: MotionNetSpec, run: MotionRun) -> None:
        """Raises CheckpointError if the run's folder cannot be used or resumed from."""
        self.spec, self.recipe, self.run = spec, spec.recipe, run
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(self.recipe.seed)
        self.network = MotionNet(spec.network, spec.input.frames).to(
            self._device, memory_format=torch.channels_last
        )  # type: ignore[call-overload]
        self._optimiser = torch.optim.Adam(self.network.parameters(), lr=self.recipe.rate)
        self._samples = MotionSamples(train, spec, teacher_of(self.recipe))
        self.step = self._open_folder()

    def __call__(self, validation: list[CachedClip]) -> tuple[Path, MotionFit | None]:
        """Train to the last step; returns the checkpoint, and how well it fits the validation
        clips, if there are any. Raises Interrupted after SIGINT or SIGTERM, once its state is
        saved, and TrainingError if the loss is not finite."""
        losses: list[float] = []
        saved = time.monotonic()
        with stop_signals() as stopped:
            loader = iter(self._loader())
            for stack in track(loader, "steps", total=self.recipe.steps - self.step):
                losses.append(self._take_step(stack))
                self.step += 1
                if self.step % LOG_EVERY == 0 or self.step == self.recipe.steps:
                    mean = sum(losses) / len(losses)
                    logger.info("step %d of %d: loss %.4f", self.step, self.recipe.steps, mean)
                    losses = []
                if stopped() and self.step < self.recipe.steps:
                    self._save_state()
                    logger.info(
                        "stopped at step %d of %d; go on with --resume",
                        self.step,
                        self.recipe.steps,
                    )
                    raise Interrupted
                if time.monotonic() - saved >= SAVE_EVERY_S:
                    self._save_state()
                    saved = time.monotonic()
        file = self.run.folder / CHECKPOINT
        write_motion(file, self.network.state_dict(), self.spec)
        (self.run.folder / STATE).unlink(missing_ok=True)
        return file, self._fit(validation)

    def _loader(self) -> DataLoader[Stack]:
        first = self.step * self.recipe.batch
        return DataLoader(
            self._samples,
            batch_size=self.recipe.batch,
            sampler=range(first, len(self._samples)),
            num_workers=self.run.workers,
            pin_memory=self._device.type == "cuda",
        )

    def _take_step(self, stack: Stack) -> float:
        for group in self._optimiser.param_groups:
            group["lr"] = self.recipe.rate * rate_share(self.step, self.recipe.steps)
        pictures = stack.pictures.to(self._device).float()  # (N, L + 1, H, W), levels
        taught, known = stack.taught.to(self._device), stack.known.to(self._device)
        flows = self.network.scales(self._normalised(pictures))
        loss = motion_loss(pictures, flows, self.recipe.smoothness, taught, known)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at step {self.step + 1}; give a lower --rate than "
                f"{self.recipe.rate:g}"
            )
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
        self._optimiser.step()
        return value

    def _normalised(self, pictures: torch.Tensor) -> torch.Tensor:
        (mean,), (std,) = self.spec.normalisation.mean, self.spec.normalisation.std
        values = (pictures / 255 - mean) / std
        return values.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def _fit(self, clips: list[CachedClip]) -> MotionFit | None:
        stacks = held_out_stacks(clips, self.spec)
        if not stacks:
            return None
        sums = [0.0, 0.0]
        self.network.eval()
        for stack in stacks:
            pictures = stack[None].to(self._device).float()
            flow = self.network(self._normalised(pictures))
            for index, shown in enumerate((flow, torch.zeros_like(flow))):
                sums[index] += float(photometric_loss(pictures, shown, 0.0))
        return MotionFit(sums[0] / len(stacks), sums[1] / len(stacks), len(stacks))

    def _open_folder(self) -> int:
        """Make the folder, or load the state in it; returns the steps that are done."""
        folder = self.run.folder
        state = folder / STATE
        if self.run.resume and state.is_file():
            return self._load_state(state)
        if self.run.resume and (folder / CHECKPOINT).exists():
            raise CheckpointError(f"{folder}: its run is finished; give another --out")
        if state.exists() or (folder / CHECKPOINT).exists():
            raise CheckpointError(
                f"{folder}: has a run already; go on with --resume if it was stopped, or give "
                "another --out"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"{folder}: cannot be written to ({error.strerror}); give another --out"
            ) from None
        return 0

    def _save_state(self) -> None:
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for number, values in self._optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{name}": value for name, value in values.items()}
        metadata = {MOTION_KEY: self.spec.model_dump_json(), "step": json.dumps(self.step)}
        write_tensors(self.run.folder / STATE, tensors, {"format": FORMAT} | metadata)

    def _load_state(self, path: Path) -> int:
        if read_motion_spec(path) != self.spec:
            raise CheckpointError(
                f"{path}: is of a run with other options or clips; give the same, or another --out"
            )
        tensors, metadata = read_tensors(path, MOTION_KEY)
        weights: dict[str, torch.Tensor] = {}
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            if part == "network":
                weights[rest] = value
            else:
                number, _, key = rest.partition(".")
                moments.setdefault(int(number), {})[key] = value
        try:
            self.network.load_state_dict(weights)
            groups = self._optimiser.state_dict()
            self._optimiser.load_state_dict(groups | {"state": moments})
            step = int(json.loads(metadata["step"]))
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{path}: not the state of this run ({reason})") from None
        logger.info("going on from step %d of %d", step, self.recipe.steps)
        return step
