"""Trains a classifier alone, on features of a frozen backbone that are computed once.

With the backbone fixed this is multinomial logistic regression: convex, and so cheap that each take
can be left out in turn (see leave_one_out.py).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge.bundle.network import NetworkSpec
from edge.errors import TrainingError
from edge.terminal import track
from train.data.cache import CachedClip
from train.models.backbone import classifier, pooled_features, to_device
from train.models.build import initial_network
from train.models.checkpoint import Origin
from train.recipe import Recipe
from train.training.dataset import TrainingSet
from train.training.distributed import Ranks
from train.training.motion_network import initial_motion
from train.training.optim import batch_of, class_weights, smooth
from train.training.run_folder import RunFolder
from train.training.validation import Validation

logger = logging.getLogger(__name__)

BATCH = 32  # samples whose features are computed together
ITERATIONS = 100  # of L-BFGS, at most

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Head:
    """A classifier: features (..., F) -> logits (..., C). weight: (C, F); bias: (C,). loss: mean
    cross-entropy of the samples it was fitted to."""

    weight: torch.Tensor
    bias: torch.Tensor
    loss: float

    def __call__(self, features: torch.Tensor) -> Logits:
        return (features @ self.weight.T + self.bias).numpy()


@dataclass(frozen=True, slots=True)
class HeadSamples:
    """What a classifier is fitted to. features: (N, F). targets: scores (N, C) with a sum of 1.
    weights: (N,) in the loss. clips: (N,) the index of each sample's clip."""

    features: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    clips: NDArray[np.int64]

    def __getitem__(self, rows: NDArray[np.bool_]) -> HeadSamples:
        keep = torch.from_numpy(rows)
        return HeadSamples(
            self.features[keep], self.targets[keep], self.weights[keep], self.clips[rows]
        )


@dataclass(frozen=True, slots=True)
class HeadRun:
    """A run that trains a classifier alone. folder: of its checkpoint."""

    spec: NetworkSpec
    recipe: Recipe
    folder: Path

    def frozen_network(self) -> tuple[nn.Module, str]:
        """The network with its initial weights, in evaluation mode, and their source as text."""
        motion = initial_motion(self.recipe)
        network, source = initial_network(self.spec, self.recipe.network, 0.0, motion)
        return to_device(network.eval()), source

    def write(
        self,
        network: nn.Module,
        source: str,
        head: Head,
        train: list[CachedClip],
        validation: list[CachedClip],
    ) -> Path:
        """Put the classifier into its network, judge it on the validation clips, if there are any,
        and write the checkpoint. Raises CheckpointError if it cannot be written."""
        layer = classifier(network)
        with torch.no_grad():
            layer.weight.copy_(head.weight)  # type: ignore[operator, union-attr]
            layer.bias.copy_(head.bias)  # type: ignore[operator, union-attr]
        alone = Ranks(0, 1, 0, next(network.parameters()).device)
        judged = Validation(validation, self.spec, self.recipe, alone)(network)
        origin = Origin.of(self.recipe.to_json(), source, train, validation)
        folder = RunFolder(self.folder, self.spec, origin, "last", keep=1)
        return folder.write_epoch(network, [{"epoch": 1.0, "loss": head.loss} | judged])


def train_head(
    run: HeadRun, train: list[CachedClip], validation: list[CachedClip], ranks: Ranks
) -> Path:
    """Train the classifier of a network with a frozen backbone; returns its checkpoint.

    train, validation: as for `train_network`. Raises TrainingError under torchrun, and
    CheckpointError if the weights cannot be loaded or the checkpoint cannot be written.
    """
    if ranks.world > 1:
        raise TrainingError("a classifier alone is trained in one process; leave torchrun out")
    network, source = run.frozen_network()
    network.to(ranks.device)
    with one_thread():
        head = fit_head(sample_features(network, train, run), run.recipe)
    return run.write(network, source, head, train, validation)


def sample_features(network: nn.Module, clips: list[CachedClip], run: HeadRun) -> HeadSamples:
    """The features of all samples of one epoch, as the recipe draws and augments them; of several
    segments, their mean."""
    samples = TrainingSet(clips, run.spec, run.recipe)
    device = next(network.parameters()).device
    features, targets = [], []
    firsts = range(0, len(samples), BATCH)
    for first in track(firsts, f"{run.spec.stream} features", total=len(firsts)):
        numbers = range(first, min(first + BATCH, len(samples)))
        items = [samples[1, number] for number in numbers]
        inputs = torch.stack([item[0] for item in items])  # (B, K, channels, H, W)
        flat = batch_of(inputs, device)
        with torch.inference_mode():
            pooled = pooled_features(network, flat).float().cpu()
        features.append(pooled.unflatten(0, inputs.shape[:2]).mean(dim=1))
        targets += [item[1] for item in items]
    wanted = torch.stack(targets)
    weights = wanted @ class_weights(samples.counts, run.recipe.loss.class_weights)
    of_clip = np.array([sample.clip for sample in samples.samples], np.int64)
    return HeadSamples(torch.cat(features).clone(), wanted, weights, of_clip)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: matrices are small, and on a busy machine threads mostly wait for each
    other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fit_head(samples: HeadSamples, recipe: Recipe) -> Head:
    """Multinomial logistic regression with a penalty on the squared weights.

    The features are centred and scaled to a mean square norm of 1 for it, so that the penalty means
    the same for every backbone. Raises TrainingError if the loss is not finite.
    """
    centre = samples.features.mean(dim=0)
    centred = samples.features - centre
    scale = centred.square().sum(dim=1).mean().sqrt().clamp_min(1e-6)
    inputs, targets = centred / scale, smooth(samples.targets, recipe.loss.smoothing)
    weight = torch.zeros(targets.shape[1], inputs.shape[1], requires_grad=True)
    bias = torch.zeros(targets.shape[1], requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe"
    )

    def cross_entropy() -> torch.Tensor:
        losses = nn.functional.cross_entropy(inputs @ weight.T + bias, targets, reduction="none")
        return (losses * samples.weights).mean()

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = cross_entropy() + recipe.optimiser.weight_decay * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call, arg-type]
    with torch.no_grad():
        loss = float(cross_entropy())
        if not np.isfinite(loss):
            raise TrainingError(f"the loss is {loss}; are the initial weights finite?")
        folded = weight / scale
        return Head(folded, bias - folded @ centre, loss)
