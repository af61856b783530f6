"""Figures of merit from scores (clips, C) and the number of each clip's class (clips,)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edge.errors import DataError
from edge.files import write_atomic
from edge.fusion import Scores

Truth = NDArray[np.int64]


def top_k(scores: Scores, truth: Truth, k: int) -> float:
    """The share of clips whose class is among their k best; of equals the first class wins."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return float((best == truth[:, None]).any(axis=1).mean())


def confusion(scores: Scores, truth: Truth) -> NDArray[np.int64]:
    """Clips of class i that were taken for class j, (C, C)."""
    counts = np.zeros((scores.shape[1], scores.shape[1]), np.int64)
    np.add.at(counts, (truth, scores.argmax(axis=1)), 1)
    return counts


def right_by_class(counts: NDArray[np.int64], classes: tuple[str, ...]) -> dict[str, str]:
    """ "3 of 4" for each class that has clips."""
    return {
        label: f"{counts[index, index]} of {counts[index].sum()}"
        for index, label in enumerate(classes)
        if counts[index].sum()
    }


def log_likelihood(scores: Scores, truth: Truth) -> float:
    """The mean logarithm of the score of each clip's own class."""
    return float(np.log(np.maximum(scores[np.arange(len(truth)), truth], 1e-9)).mean())


def draw_confusion(
    counts: NDArray[np.int64], classes: tuple[str, ...], title: str, path: Path
) -> None:
    """The confusion matrix as a PNG: shares of each row's class, with the counts where there is
    room for them.
    """
    size = len(classes)
    side = min(max(4.5, 0.22 * size + 3), 26)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    font = 9 if size <= 20 else 6
    axes.set_xticks(range(size), classes, rotation=90, fontsize=font)
    axes.set_yticks(range(size), classes, fontsize=font)
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    axes.set_title(title)
    if size <= 20:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=font)
    save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """As a PNG, whole or not at all. Raises DataError where it cannot be written."""
    FigureCanvasAgg(figure)
    with write_atomic(path, DataError) as file:
        figure.savefig(file, format="png", dpi=110)
