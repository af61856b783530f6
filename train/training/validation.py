"""Validation of a network after each epoch, shared out among the processes of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from edge.bundle.network import NetworkSpec
from edge.decision.fusion import Scores
from train.data.cache import CachedClip
from train.evaluation.metrics import log_likelihood, top_k
from train.evaluation.protocol import mean_scores, torch_network, true_classes
from train.recipe import Recipe
from train.training.distributed import Ranks


@dataclass(frozen=True, slots=True)
class Validation:
    """clips: all validation clips, each of one of the network's classes."""

    clips: list[CachedClip]
    spec: NetworkSpec
    recipe: Recipe
    ranks: Ranks

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """{"top1": 0 to 1, "log_likelihood": mean over the clips}; {} without clips.

        Called in all processes, and the same in all. Leaves the network in evaluation mode.
        """
        if not self.clips:
            return {}
        network.eval()
        share = self.clips[self.ranks.rank :: self.ranks.world]
        samples, history = self.recipe.validation.samples, self.recipe.sampling.stack
        rows: list[Scores] = []
        if share:
            rows = list(mean_scores(share, self.spec, torch_network(network), samples, history))
        shares = self.ranks.gather((rows, true_classes(share, self.spec.classes)))
        scores = np.stack([row for rows, _ in shares for row in rows])
        truth = np.concatenate([classes for _, classes in shares])
        return {"top1": top_k(scores, truth, 1), "log_likelihood": log_likelihood(scores, truth)}
