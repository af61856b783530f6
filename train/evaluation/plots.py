"""Plots a confusion matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edge.errors import DataError
from edge.files import write_atomic


def draw_confusion(
    counts: NDArray[np.int64], classes: tuple[str, ...], title: str, path: Path
) -> None:
    """Draw a confusion matrix (C, C) as a PNG. Colours are shares of each row; up to 20 classes the
    counts are written, too. Raises DataError if it cannot be written.
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
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(title)
    if size <= 20:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=font)
    save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG atomically. Raises DataError if it cannot be written."""
    FigureCanvasAgg(figure)
    with write_atomic(path, DataError) as file:
        figure.savefig(file, format="png", dpi=110)
