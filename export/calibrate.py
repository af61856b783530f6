"""`twostream calibrate`. Imports onnxruntime only once the command runs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edge.text import print_line
from train.commands.arguments import Cache

if TYPE_CHECKING:
    import onnx

    from calibration.quantise import Quantised
    from calibration.samples import Samples
    from edge.bundle.network import NetworkSpec

logger = logging.getLogger(__name__)

RangeMethod = Literal["auto", "mse", "min-max", "percentile", "entropy"]
Ranges = Annotated[
    RangeMethod, typer.Option(help="How activation ranges are chosen; auto: the best method.")
]


def calibrate_command(
    model: Annotated[Path, typer.Argument(help="FP32 ONNX file from twostream export.")],
    data: Annotated[
        Path, typer.Argument(help="Data set that the network was trained on, or videos.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="INT8 ONNX file; default: MODEL.int8.onnx.")
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="Training clips to calibrate on.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for choosing clips.")] = 1,
    ranges: Ranges = "auto",
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="DATA is an unlabelled video, or a folder of them.")
    ] = False,
    sensitivity: Annotated[
        Path | None,
        typer.Option(help="Plot the score difference of each layer quantised alone: .png."),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION", help="Also write OUT.cache, a calibration cache for this TensorRT."
        ),
    ] = None,
    cache: Cache = Path("work/cache"),
) -> None:
    """Quantise an FP32 network to INT8 (Q/DQ), calibrated on its training clips."""
    from calibration.clips import find_unlabelled
    from calibration.onnx_file import load_model, write_model
    from calibration.quantise import calibrate
    from calibration.samples import draw_samples, draw_unlabelled
    from calibration.table import write_table
    from train.data.cache import open_cache
    from train.data.dataset import open_dataset

    out = out or model.with_name(f"{model.stem}.int8.onnx")
    fp32, spec = load_model(model)
    store = open_cache(cache, spec)
    if unlabelled:
        videos = find_unlabelled(data, spec)
        samples = draw_unlabelled(spec, videos, clips, seed, store)
    else:
        labelled = open_dataset(data, spec.split).train
        samples = draw_samples(spec, labelled, clips, seed, store)
    quantised = calibrate(fp32, samples, ranges)
    write_model(quantised.model, spec, out)
    for line in describe(spec, samples, quantised):
        logger.info("%s", line)
    logger.info("wrote %s", out)
    if table is not None:
        file = out.with_name(out.name + ".cache")
        write_table(out, table, file)
        logger.info("wrote %s and %s.json, for TensorRT %s", file, file.name, table)
    if sensitivity is not None:
        _show_sensitivity(fp32, spec, samples, quantised, sensitivity)
        logger.info("wrote %s", sensitivity)


def summarise(samples: Samples, quantised: Quantised) -> dict[str, Any]:
    """The calibration of a network, for the bundle's report."""
    return {
        "clips": len(samples.clips),
        "samples": len(samples),
        "skipped": len(samples.skipped),
        "clips_a_class": samples.label_spread,
        "clip_list_sha256": samples.list_hash,
        "ranges": quantised.method,
        "mean_score_difference_by_ranges": {k: round(v, 5) for k, v in quantised.tried.items()},
        "float_layers": list(quantised.float_layers),
        "mean_score_difference_held_out": round(quantised.difference.mean, 5),
    }


def describe(spec: NetworkSpec, samples: Samples, quantised: Quantised) -> list[str]:
    """The calibration of a network, as lines for the log, without the warnings of the samples."""
    difference = quantised.difference
    spread = ", ".join(f"{label} {count}" for label, count in samples.label_spread.items())
    tried = ", ".join(f"{method} {mean:.4f}" for method, mean in quantised.tried.items())
    return [
        f"{spec.stream}: {len(samples.clips)} clips, {len(samples)} samples, "
        f"{len(samples.skipped)} clips skipped; clip list sha256 {samples.list_hash[:16]}",
        f"clips a class: {spread}",
        f"ranges: {quantised.method}; mean |score difference|, less layers kept float: {tried}",
        f"layers in float: {', '.join(quantised.float_layers) or 'none'}",
        f"INT8 against FP32 on {difference.samples} samples held out: mean |score difference| "
        f"{difference.mean:.4f}, largest {difference.largest:.4f}, "
        f"same top-1 {difference.same_top1:.1%}",
    ]


def _show_sensitivity(
    fp32: onnx.ModelProto, spec: NetworkSpec, samples: Samples, quantised: Quantised, picture: Path
) -> None:
    from calibration.quantise import HELD_OUT, layers_by_loss
    from export.figures import draw_sensitivity

    losses = layers_by_loss(fp32, quantised.ranges, samples.split(HELD_OUT)[1])
    print_line("mean |score difference| of a float network with this layer alone in INT8")
    for number, loss in enumerate(losses, 1):
        kept = "  stays float" if loss.name in quantised.float_layers else ""
        print_line(f"{number:4}  {loss.difference:.5f}  {loss.kind:7} {loss.name}{kept}")
    draw_sensitivity(losses, quantised.float_layers, f"{spec.stream} {spec.backbone}", picture)
