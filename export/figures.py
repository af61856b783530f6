"""Plots of an export's results."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from calibration.sensitivity import LayerLoss
from export.confidence import BINS, Bin, calibration_error
from train.evaluation.plots import save_figure

_SHOWN = 30  # layers


def draw_sensitivity(
    losses: Sequence[LayerLoss], kept_float: Collection[str], title: str, path: Path
) -> None:
    """The layers with the largest quantisation loss, as bars; float layers in another colour."""
    shown = list(losses[:_SHOWN])[::-1]
    figure = Figure(figsize=(8, 1.2 + 0.22 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    colours = ["tab:orange" if loss.name in kept_float else "tab:blue" for loss in shown]
    names = [loss.name.removesuffix("_output_0").removesuffix(f"/{loss.kind}") for loss in shown]
    axes.barh(names, [loss.difference for loss in shown], color=colours)
    axes.tick_params(axis="y", labelsize=7)
    axes.margins(y=0.01)
    axes.set_xlabel("mean |score difference| with this layer alone in INT8")
    more = f", first {len(shown)} of {len(losses)} layers" if len(losses) > len(shown) else ""
    axes.set_title(f"{title}{more}", fontsize=10)
    save_figure(figure, path)


def draw_reliability(bins: Mapping[str, list[Bin]], path: Path) -> None:
    """Reliability diagram, a panel for each stream; calibrated scores lie on the diagonal."""
    figure = Figure(figsize=(3.4 * len(bins), 3.6), layout="constrained")
    for axes, (name, found) in zip(figure.subplots(1, len(bins)), bins.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        middles = [(int(one.confidence * BINS) + 0.5) / BINS for one in found]
        axes.bar(middles, [one.accuracy for one in found], 1 / BINS, alpha=0.7, edgecolor="white")
        sizes = [4 + 60 * one.count / max(other.count for other in found) for one in found]
        axes.scatter(
            [one.confidence for one in found],
            [one.accuracy for one in found],
            sizes,
            color="tab:orange",
            zorder=3,
        )
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="score", aspect="equal")
        axes.set_title(f"{name}: error {calibration_error(found):.3f}", fontsize=10)
    figure.axes[0].set_ylabel("share that is right")
    save_figure(figure, path)
