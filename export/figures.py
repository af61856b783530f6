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
    """Bars of the layers with the largest loss, as a PNG; layers that stay float are orange.

    losses: sorted, largest first. kept_float: layers by their first output. Raises DataError if the
    file cannot be written.
    """
    bars = list(losses[:_SHOWN])[::-1]
    figure = Figure(figsize=(8, 1.2 + 0.22 * len(bars)), layout="constrained")
    axes = figure.add_subplot()
    colours = ["tab:orange" if loss.name in kept_float else "tab:blue" for loss in bars]
    names = [loss.name.removesuffix("_output_0").removesuffix(f"/{loss.kind}") for loss in bars]
    axes.barh(names, [loss.difference for loss in bars], color=colours)
    axes.tick_params(axis="y", labelsize=7)
    axes.margins(y=0.01)
    axes.set_xlabel("mean |score difference| with this layer alone in INT8")
    more = f", first {len(bars)} of {len(losses)} layers" if len(losses) > len(bars) else ""
    axes.set_title(f"{title}{more}", fontsize=10)
    save_figure(figure, path)


def draw_reliability(bins: Mapping[str, list[Bin]], path: Path) -> None:
    """Reliability diagrams as a PNG, a panel for each stream. The bars of
    calibrated scores end on the diagonal.

    bins: by stream and "fused". Raises DataError if the file cannot be written.
    """
    figure = Figure(figsize=(3.4 * len(bins), 3.6), layout="constrained")
    panels = figure.subplots(1, len(bins))
    for axes, (name, stream_bins) in zip(panels, bins.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        centres = [(int(each.confidence * BINS) + 0.5) / BINS for each in stream_bins]
        accuracies = [each.accuracy for each in stream_bins]
        axes.bar(centres, accuracies, 1 / BINS, alpha=0.7, edgecolor="white")
        largest = max(each.count for each in stream_bins)
        sizes = [4 + 60 * each.count / largest for each in stream_bins]
        axes.scatter(
            [each.confidence for each in stream_bins],
            accuracies,
            sizes,
            color="tab:orange",
            zorder=3,
        )
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="score", aspect="equal")
        axes.set_title(f"{name}: error {calibration_error(stream_bins):.3f}", fontsize=10)
    figure.axes[0].set_ylabel("share that is right")
    save_figure(figure, path)
