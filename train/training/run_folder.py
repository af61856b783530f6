"""The folder of one training run.

    OUT/heavy-temporal-xception-adam-1e-05-imagenet/   augmentation, stream, backbone, optimiser,
                                                       learning rate, initial weights
        300-0.84298-0.84166.safetensors                epoch, best top-1 so far, top-1
        resume.safetensors                             the state of the run, to resume from
        curve.png, events/                             learning curve, TensorBoard events

The names follow the Keras two-stream project (see train/recipes/seed-xception.toml).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from edge.bundle.network import NetworkSpec
from edge.errors import CheckpointError
from edge.inputs.luma_stack import LumaStackInput
from train.models.checkpoint import (
    History,
    Origin,
    epoch_files,
    epoch_of,
    write_checkpoint,
)
from train.recipe import Recipe
from train.training.learner import Learner
from train.training.resume import STATE_FILE, Progress, TrainingState, load_state, write_state


def run_name(recipe: Recipe, spec: NetworkSpec) -> str:
    """The name of a run's folder."""
    weights = recipe.network.weights
    if weights.endswith((".safetensors", ".pth", ".pt")):
        weights = ("qat-" if recipe.network.quantise else "") + Path(weights).stem
    kind, rate = recipe.optimiser.kind, f"{recipe.optimiser.rate:.0e}"
    method = "tvl1" if spec.input.motion is None else spec.input.motion.method
    if isinstance(spec.input, LumaStackInput):
        method = "network"
    over_time = {"rgb_online": "online", "rgb_clip": "clip", "flow_clip": "clip"}
    parts = [spec.stream, *([] if method == "tvl1" else [method])]
    parts += [over_time[spec.input.kind]] if spec.input.kind in over_time else []
    stream = "_".join(parts)
    return "-".join([recipe.augmentation.name, stream, spec.backbone, kind, rate, weights])


def best_epoch(history: History, choose_by: str) -> int:
    """The index of the best row by a metric of ValidationRecipe.choose_by; of equals the first."""
    if choose_by == "last":
        return len(history) - 1
    return max(range(len(history)), key=lambda row: (history[row][choose_by], -row))


def open_folder(folder: Path, resume: bool) -> Path:
    """Create the folder of a run and return the path of its state file.

    Raises CheckpointError if it cannot be written to, or has a run already and `resume` is false.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CheckpointError(
            f"{folder}: cannot be written to ({error.strerror}); give another --out"
        ) from None
    if not resume and ((folder / STATE_FILE).exists() or epoch_files(folder)):
        raise CheckpointError(
            f"{folder}: has a training run already; go on with --resume auto, "
            "give another --out, or remove it"
        )
    return folder / STATE_FILE


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of a run that can be trained on or exported.

    choose_by: the metric of the best epoch (ValidationRecipe). keep: newest checkpoints to keep
    besides the best.
    """

    path: Path
    spec: NetworkSpec
    origin: Origin
    choose_by: str
    keep: int

    def newest_is_best(self, history: History) -> bool:
        """Whether the last epoch of the history is the best so far."""
        return best_epoch(history, self.choose_by) == len(history) - 1

    def write_epoch(self, network: nn.Module, history: History) -> Path:
        """Write the checkpoint of the newest epoch, and delete those that are not to be kept.

        Returns the new file. Raises CheckpointError if it cannot be written.
        """
        newest, best = len(history), best_epoch(history, self.choose_by) + 1
        top1 = [f"{row['top1']:.5f}" if "top1" in row else "none" for row in history]
        file = self.path / f"{newest:03}-{top1[best - 1]}-{top1[-1]}.safetensors"
        write_checkpoint(file, network, self.spec, self.origin, history, best == newest)
        for older in epoch_files(self.path):
            if epoch_of(older) <= newest - self.keep and epoch_of(older) != best:
                older.unlink()
        return file

    def write_state(self, learner: Learner, progress: Progress) -> None:
        """Write the state to resume from. Raises CheckpointError if it cannot be written."""
        write_state(self.path / STATE_FILE, learner, progress, self.spec, self.origin)

    def load_state(self, path: Path) -> TrainingState:
        """The state at `path`. Raises CheckpointError if it is not one of the same run."""
        return load_state(path, self.spec, self.origin)


def only_run(work: Path, stream: str) -> Path:
    """The folder of the one run of a stream in `work`. Raises CheckpointError if there are none
    or several.
    """
    runs = sorted(folder for folder in work.glob(f"*-{stream}-*") if epoch_files(folder))
    if len(runs) != 1:
        listed = f"there are {', '.join(run.name for run in runs)}" if runs else "there is none"
        raise CheckpointError(
            f"{work}: needs one {stream} run, {listed}; name checkpoints with --network "
            f"{stream}=CHECKPOINT"
        )
    return runs[0]
