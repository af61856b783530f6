"""Leave-one-take-out: the logits of each clip by classifiers that were fitted without its take.

Every clip serves to train and to judge, and none does both at once: of few takes there is nothing
to spare for a test part. The backbone is frozen and has seen none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edge.terminal import track
from train.data.cache import CachedClip
from train.evaluation.protocol import frame_features
from train.training.head import HeadRun, Logits, fit_head, sample_features


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A network that was trained on all clips, and how it does without each.

    checkpoint: of the network. logits: of each clip, by its name, by the network that was trained
    without the clip's take, for each frame that an input may end at. changes: what these have more
    than those of the network, (frames, C) of each clip; 0 for frames that no input ends at.
    """

    checkpoint: Path
    logits: Mapping[str, Logits]
    changes: Mapping[str, Logits]


def leave_one_out(run: HeadRun, clips: list[CachedClip]) -> LeftOut:
    """Train a network on all clips, and its classifier again without each take, which then is
    judged by it.

    A take is the clips of one group of one class. Each class needs two takes. Raises as
    `train_head` does.
    """
    network, source = run.frozen_network()
    samples = sample_features(network, clips, run)
    final = fit_head(samples, run.recipe)
    takes: dict[tuple[str, str], list[int]] = {}
    for index, clip in enumerate(clips):
        takes.setdefault((clip.clip.label, clip.clip.group), []).append(index)
    logits: dict[str, Logits] = {}
    changes: dict[str, Logits] = {}
    for members in track(takes.values(), f"{run.spec.stream} without each take", total=len(takes)):
        head = fit_head(samples[~np.isin(samples.clips, members)], run.recipe)
        for clip in (clips[index] for index in members):
            frames, name = clip.usable(run.spec.input.history), clip.clip.name
            features = torch.from_numpy(frame_features(clip, run.spec, network, frames))
            logits[name] = head(features)
            changes[name] = np.zeros((len(clip), logits[name].shape[1]), np.float32)
            changes[name][frames] = logits[name] - final(features)
    return LeftOut(run.write(network, source, final, clips, []), logits, changes)
