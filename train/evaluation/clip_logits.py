"""Clip logits that other projects publish: one row a clip and stream, in one .npz.

labels          (clips,) whole numbers, the index of each clip's class
groups          (clips,) the group of each clip; clips of one group are cut from one recording
classes         (C,) text
clips           (clips,) text, names of the clips; may be absent
any other name  (clips, C) float, the logits of the stream of that name
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import MeanKind
from edge.decision.fusion import KINDS, Scores
from edge.errors import DataError
from train.evaluation.fusion_fit import Clips, FittedFusion, choose_kind, fit_fusion, hold_out
from train.evaluation.scores import INVALID

_ABOUT = ("labels", "groups", "classes", "clips")


def is_clip_logits(path: Path) -> bool:
    """Whether a file says that it is of this form: it has groups and classes."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {"labels", "groups", "classes"} <= set(file.files) and "header" not in file.files
    except INVALID:
        return False


def load_clip_logits(path: Path, streams: tuple[str, ...] = ()) -> Clips:
    """The clips of such a file, with one snippet each. streams: those to read; all if empty.

    Raises DataError if the file is damaged or invalid, or lacks one of the streams.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        logits = {name: values for name, values in arrays.items() if name not in _ABOUT}
        _check(arrays, logits)
    except INVALID as error:
        reason = str(error).split("\n")[0]
        raise DataError(f"{path}: not a file of clip logits ({reason})") from None
    if unknown := [name for name in streams if name not in logits]:
        raise DataError(f"{path}: has no stream {unknown[0]}; it has {', '.join(logits)}")
    chosen = {name: logits[name][:, None] for name in streams or logits}
    return Clips(chosen, arrays["labels"].astype(np.int64), arrays["groups"])


def _check(arrays: dict[str, NDArray[Any]], logits: dict[str, NDArray[Any]]) -> None:
    """Raises ValueError or KeyError if the parts do not fit together."""
    labels, groups, classes = (arrays[name] for name in ("labels", "groups", "classes"))
    if classes.ndim != 1 or labels.ndim != 1 or labels.shape != groups.shape or not len(labels):
        raise ValueError("labels, groups and classes need one row each, the first two as long")
    if labels.dtype.kind not in "iu" or not 0 <= labels.min() <= labels.max() < len(classes):
        raise ValueError(f"labels must be whole numbers from 0 to {len(classes) - 1}")
    if not logits:
        raise ValueError("no stream's logits")
    for name, values in logits.items():
        if values.shape != (len(labels), len(classes)) or values.dtype.kind != "f":
            raise ValueError(f"{name} has shape {values.shape} and type {values.dtype}")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds something other than finite numbers")


@dataclass(frozen=True, slots=True)
class Half:
    """Fusions fitted on the clips of some groups, to be judged on the others. judged: whether each
    clip is of the others, (clips,). chosen: the kind that the fitted clips choose."""

    judged: NDArray[np.bool_]
    fitted: dict[MeanKind, FittedFusion]
    chosen: MeanKind


def fit_halves(clips: Clips, first: NDArray[np.bool_]) -> tuple[Half, Half]:
    """Fusions fitted on the clips of `first` (clips,), and on the others."""

    def fit(judged: NDArray[np.bool_]) -> Half:
        rest = clips[~judged]
        fitted = {kind: fit_fusion(kind, rest) for kind in KINDS}
        return Half(judged, fitted, choose_kind(hold_out(rest)))

    return fit(~first), fit(first)


def first_half(clips: Clips) -> NDArray[np.bool_]:
    """Whether each clip is of the first half of the groups, in their order, (clips,): three of
    seven. Raises DataError if a half has fewer than two groups."""
    groups = np.unique(clips.groups)
    if len(groups) < 4:
        raise DataError(f"clips of {len(groups)} groups; to fit on one half needs four or more")
    return np.isin(clips.groups, groups[: len(groups) // 2])


def judged_scores(clips: Clips, halves: tuple[Half, Half], kind: MeanKind | None) -> Scores:
    """The fused scores (clips, C) of each clip by the fusion that was fitted on the other half, of
    this kind, or of the chosen one if None."""
    scores = np.empty(next(iter(clips.logits.values())).shape, np.float32)
    for half in halves:
        fitted = half.fitted[kind or half.chosen]
        scores[half.judged] = fitted.scores(clips[half.judged].logits)
    return scores.mean(axis=1)
