"""Clips of a cache that has none of their frames: times and labels are enough for decisions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from export.measure import SAMPLES, Moments, SnippetScores
from train.data.cache import CachedClip
from train.data.clips import Clip
from train.data.timeline import Timeline


def cached_clip(
    label: str, frames: int, name: str = "clip", gaps: tuple[int, ...] = ()
) -> CachedClip:
    """A clip of 25 frames a second. gaps: frames before which all is forgotten."""
    times_s = tuple(index / 25 for index in range(frames))
    clip = Clip(name, Path(), label, name)
    return CachedClip(clip, (32, 32), Timeline(times_s, gaps), "bt601", Path(), "", ())


def moments_of(scores: SnippetScores) -> Moments:
    """Every frame of the clips; a frame has the logits of the snippet before it."""
    frames = len(scores.clips[0]) - scores.history
    places = np.arange(frames) * SAMPLES // frames
    logits = {s: [rows[places] for rows in scores.logits[s, "int8"]] for s in scores.streams}
    return Moments(scores.clips, scores.classes, scores.history, logits)
