"""The folder of one training run.

    OUT/heavy-temporal-xception-adam-1e-05-imagenet/   augmentation, stream, network, optimiser,
                                                       rate, initialisation
        300-0.84298-0.84166.safetensors                epoch, best and current top-1 so far
        resume.safetensors                             the run itself, between two steps
        curve.png, events/                             for people, and for TensorBoard

The names are those of the Keras project that this one descends from.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from edge.bundle.network import NetworkSpec
from edge.errors import CheckpointError
from train.models.checkpoint import (
    History,
    Origin,
    epoch_files,
    epoch_of,
    write_checkpoint,
)
from train.recipe import Recipe
from train.training.resume import STATE_FILE


def run_name(recipe: Recipe, spec: NetworkSpec) -> str:
    """The name of a run's folder."""
    weights = recipe.network.weights
    if weights.endswith((".safetensors", ".pth", ".pt")):
        weights = ("qat-" if recipe.network.quantise else "") + Path(weights).stem
    kind, rate = recipe.optimiser.kind, f"{recipe.optimiser.rate:.0e}"
    return "-".join([recipe.augmentation.name, spec.stream, spec.backbone, kind, rate, weights])


def best_epoch(history: History, choose_by: str) -> int:
    """The index of the best row; the first of equals."""
    if choose_by == "last":
        return len(history) - 1
    return max(range(len(history)), key=lambda row: (history[row][choose_by], -row))


def open_folder(folder: Path, resume: bool) -> Path:
    """Create the folder of a run and return the path of its state file.

    Raises CheckpointError if it cannot be written to, or has a run already and `resume` is off.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / ".writable"
        trial.touch()
        trial.unlink()
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


def keep_epoch(
    folder: Path,
    network: nn.Module,
    spec: NetworkSpec,
    origin: Origin,
    history: History,
    choose_by: str,
    keep: int,
) -> Path:
    """Write the newest epoch's checkpoint; delete all but the last `keep` and the best."""
    best = best_epoch(history, choose_by)
    top1 = [f"{row['top1']:.5f}" if "top1" in row else "none" for row in history]
    name = f"{len(history):03}-{top1[best]}-{top1[-1]}.safetensors"
    is_best = best == len(history) - 1
    write_checkpoint(folder / name, network, spec, origin, history, is_best)
    newest = len(history)
    for file in epoch_files(folder):
        if epoch_of(file) <= newest - keep and epoch_of(file) != best + 1:
            file.unlink()
    return folder / name


def only_run(work: Path, stream: str) -> Path:
    """The folder of the one run of a stream in `work`. Raises CheckpointError if there are none
    or several.
    """
    runs = sorted(path.parent for path in work.glob(f"*-{stream}-*/{STATE_FILE}"))
    if len(runs) != 1:
        found = f"there are {', '.join(run.name for run in runs)}" if runs else "there is none"
        raise CheckpointError(
            f"{work}: needs one {stream} run, {found}; name checkpoints with --network "
            f"{stream}=CHECKPOINT"
        )
    return runs[0]
