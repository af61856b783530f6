"""Monitors a training run: a progress bar, TensorBoard, and a plot of the learning curve.

FOLDER/events/     scalars of every step and epoch, and a few inputs as images
FOLDER/curve.png   loss and top-1 over the epochs
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import flow_to_image, make_grid

from edge.bundle.network import NetworkSpec
from edge.errors import TrainingError
from edge.files import write_atomic
from edge.terminal import progress_bar

logger = logging.getLogger(__name__)

SHOWN = 8  # samples in one image
FLUSH_S = 10  # seconds between writes of events


class Monitor:
    """Shows the progress of a run. A context manager for the leading process.

    title: of the progress bar. steps: of the whole run; done: those of them that were done before
    a resume. Events of later steps are dropped, so that curves do not overlap. Raises
    TrainingError, here and in each method, if the events cannot be written.
    """

    def __init__(self, folder: Path, title: str, steps: int, done: int) -> None:
        self._bar = progress_bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rates]}"),
            TimeRemainingColumn(compact=True),
        )
        self._task = self._bar.add_task(title, total=steps - done, rates="")
        self._done = done
        try:
            purge = done + 1 if done else None
            self._events = SummaryWriter(folder / "events", purge_step=purge, flush_secs=FLUSH_S)
        except OSError as error:
            raise TrainingError(
                f"{folder / 'events'}: cannot be written ({error.strerror})"
            ) from None

    def __enter__(self) -> Monitor:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        self._events.close()  # type: ignore[no-untyped-call]

    def step(self, number: int, scalars: dict[str, float]) -> None:
        """Report optimiser step `number` of the run, from 1. scalars: by name, with "loss" and
        "samples_per_s" among them.
        """
        for name, value in scalars.items():
            self._add(f"step/{name}", value, number)
        rates = f"loss {scalars['loss']:.3f}  {scalars['samples_per_s']:.1f} samples/s"
        self._bar.update(self._task, completed=number - self._done, rates=rates)

    def epoch(self, row: dict[str, float], seconds: float, best: bool) -> None:
        """Log one line for an epoch. row: of the history; seconds: its duration; best: whether it
        is the best so far.
        """
        number = int(row["epoch"])
        for name, value in row.items():
            self._add(f"epoch/{name}", value, number)
        text = f"epoch {number}  loss {row['loss']:.3f}"
        if "top1" in row:
            text += f"  validation top-1 {row['top1']:.3f}"
            text += f"  log-likelihood {row['log_likelihood']:.3f}"
        logger.info("%s  %.0f s%s", text, seconds, "  best so far" if best else "")

    def images(
        self, number: int, inputs: torch.Tensor, targets: torch.Tensor, spec: NetworkSpec
    ) -> None:
        """Show inputs (B, ...) of step `number` as an image, with the class names of their targets
        (B, C).
        """
        image = GRIDS[spec.input.kind](inputs[:SHOWN].float().cpu(), spec)
        labels = [_class_name(row, spec.classes) for row in targets[:SHOWN]]
        try:
            self._events.add_image("inputs", image, number)  # type: ignore[no-untyped-call]
            self._events.add_text("inputs", ", ".join(labels), number)  # type: ignore[no-untyped-call]
        except OSError as error:
            raise self._full(error) from None

    def _add(self, name: str, value: float, number: int) -> None:
        try:
            self._events.add_scalar(name, value, number)  # type: ignore[no-untyped-call]
        except OSError as error:
            raise self._full(error) from None

    def _full(self, error: OSError) -> TrainingError:
        return TrainingError(
            f"{self._events.log_dir}: cannot be written ({error.strerror}); "
            "free disk space, then continue with --resume auto"
        )


def rgb_grid(inputs: torch.Tensor, spec: NetworkSpec) -> torch.Tensor:
    """Inputs of one frame (B, 3, H, W) as an image grid (3, h, w), values 0 to 1."""
    mean = torch.tensor(spec.normalisation.mean).view(-1, 1, 1)
    std = torch.tensor(spec.normalisation.std).view(-1, 1, 1)
    return make_grid((inputs * std + mean).clamp(0, 1), nrow=4)


def newest_grid(inputs: torch.Tensor, spec: NetworkSpec) -> torch.Tensor:
    """The newest frame of snippets (B, T, 3, H, W), as `rgb_grid`."""
    return rgb_grid(inputs[:, -1], spec)


def rgb_clip_grid(inputs: torch.Tensor, spec: NetworkSpec) -> torch.Tensor:
    """The newest frame of clips (B, 3, T, H, W), as `rgb_grid`."""
    return rgb_grid(inputs[:, :, -1], spec)


def flow_clip_grid(inputs: torch.Tensor, spec: NetworkSpec) -> torch.Tensor:
    """Flows of clips (B, 2, T, H, W), as `flow_grid`."""
    return flow_grid(inputs.flatten(1, 2), spec)


def flow_grid(inputs: torch.Tensor, spec: NetworkSpec) -> torch.Tensor:
    """The first, middle and last flow of stacks (B, 2L, H, W), one row per sample, as an image
    grid (3, h, w), values 0 to 1. Colours are those of the Middlebury benchmark (Baker et al.,
    2011).
    """
    stack, bound_px = inputs.shape[1] // 2, spec.input.motion.bound_px
    (mean,), (std,) = spec.normalisation.mean, spec.normalisation.std
    levels = (inputs * std + mean) * 255  # (B, 2L, H, W)
    pixels = (levels - 127.5) * (bound_px / 127.5)
    pixels[levels.round() == 128] = 0  # no motion
    flows = pixels.unflatten(1, (2, stack)).transpose(1, 2)  # (B, L, 2, H, W)
    chosen = flows[:, [0, stack // 2, stack - 1]].flatten(0, 1)  # (3B, 2, H, W)
    return make_grid(flow_to_image(chosen).float() / 255, nrow=3)


def luma_grid(inputs: torch.Tensor, spec: NetworkSpec) -> torch.Tensor:
    """The first, middle and last picture of stacks (B, L + 1, H, W), one row per sample, as an
    image grid (3, h, w), values 0 to 1."""
    (mean,), (std,) = spec.normalisation.mean, spec.normalisation.std
    last = inputs.shape[1] - 1
    chosen = inputs[:, [0, last // 2, last]].flatten(0, 1).unsqueeze(1)  # (3B, 1, H, W)
    return make_grid((chosen * std + mean).clamp(0, 1), nrow=3)


GRIDS = {  # by the kind of input
    "rgb": rgb_grid,
    "rgb_online": newest_grid,
    "rgb_clip": rgb_clip_grid,
    "flow": flow_grid,
    "flow_clip": flow_clip_grid,
    "luma_stack": luma_grid,
}


def write_curve(history: list[dict[str, float]], path: Path) -> None:
    """Plot the training loss and, if all rows have it, the validation top-1 over the epochs, as a
    PNG. Raises TrainingError if it cannot be written.
    """
    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss = figure.add_subplot()
    loss.plot(epochs, [row["loss"] for row in history], "o-", color="tab:blue", label="loss")
    loss.set_xlabel("epoch")
    loss.set_ylabel("training loss", color="tab:blue")
    loss.xaxis.set_major_locator(MaxNLocator(integer=True))
    loss.grid(alpha=0.3)
    if all("top1" in row for row in history):
        top1 = loss.twinx()
        values = [row["top1"] for row in history]
        top1.plot(epochs, values, "s-", color="tab:red")
        best = values.index(max(values))
        top1.annotate(f"{values[best]:.3f}", (epochs[best], values[best]), va="bottom", ha="center")
        top1.set_ylim(0, 1.08)
        top1.set_ylabel("validation top-1", color="tab:red")
    with write_atomic(path, TrainingError) as file:
        figure.savefig(file, format="png", dpi=110)


def _class_name(target: torch.Tensor, classes: tuple[str, ...]) -> str:
    best = int(target.argmax())
    return classes[best] if float(target[best]) > 1 / len(classes) + 1e-6 else "(other)"
