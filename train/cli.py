"""`twostream train` and `twostream evaluate`. Imports torch only once a command runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import track

from edge.errors import DataError
from edge.network import NetworkSpec, Stream

if TYPE_CHECKING:
    from train.cache import CachedClip, ClipCache
    from train.ucf101 import Clip

STACK = 10  # flows a stack: Simonyan and Zisserman's L, and what all peers use
VALIDATION_FRACTION = 0.15

Data = Annotated[Path, typer.Argument(help="UCF101 tree: UCF-101/ and ucfTrainTestlist/.")]
Cache = Annotated[Path, typer.Option(help="Where analysed frames and flow are kept.")]


def train_command(
    stream: Annotated[str, typer.Argument(help="spatial or temporal")],
    data: Data,
    classes: Annotated[
        str, typer.Option(help="Class names, separated by commas; all by default.")
    ] = "",
    split: Annotated[int, typer.Option(help="Official split, 1 to 3.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Checkpoint; work/STREAM.safetensors.")] = None,
    flow: Annotated[str, typer.Option(help="TV-L1 preset: fast or accurate.")] = "fast",
    epochs: int = 12,
    batch: int = 32,
    snippets: Annotated[int, typer.Option(help="Moments drawn from each clip an epoch.")] = 5,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 4e-4,
    dropout: float = 0.4,
    freeze: Annotated[int, typer.Option(help="Stages of the backbone that stay as they are.")] = 0,
    seed: int = 1,
    cache: Cache = Path("work/cache"),
) -> None:
    """Fine-tune one stream from ImageNet weights.

    The checkpoint is chosen on a validation part cut by group from the training list; the test
    list is not read. With --classes, training clips of all other classes teach the network what
    none of them looks like.
    """
    from edge.flow.spec import PRESETS
    from train.ucf101 import hold_out, load_split

    console = Console(stderr=True)
    if stream not in ("spatial", "temporal"):
        raise DataError(f"stream {stream!r} does not exist; train spatial or temporal")
    if flow not in PRESETS:
        raise DataError(f"flow preset {flow!r} does not exist; presets: {', '.join(PRESETS)}")
    part = load_split(data, split)  # before the slow imports: a wrong path is told at once
    from train.loop import TrainConfig, train_network

    names = _class_list(classes, {clip.label for clip in part.train})
    train, validation = hold_out(part.train, names, VALIDATION_FRACTION)
    chosen_by = [clip for clip in validation if clip.label in names]
    if not chosen_by:
        raise DataError(f"{data}: too few groups of {', '.join(names)} to hold any out")
    spec = network_spec(stream, names, PRESETS[flow], split, train, validation)  # type: ignore[arg-type]
    store = open_cache(cache, spec)
    console.print(
        f"{stream}: {len(train)} clips to train on ({sum(c.label not in names for c in train)} of "
        f"other classes), {len(chosen_by)} to choose by, {part.missing} listed clips not on disk"
    )
    out = out or Path("work") / f"{stream}.safetensors"
    out.parent.mkdir(parents=True, exist_ok=True)
    train_network(
        fill_cache(store, train, console),
        fill_cache(store, chosen_by, console),
        spec,
        TrainConfig(epochs, batch, snippets, rate, dropout, freeze, STACK, seed),
        out,
        console.print,
    )
    console.print(f"wrote {out}")


def network_spec(
    stream: Stream,
    classes: tuple[str, ...],
    flow: object,
    split: int,
    train: list[Clip],
    validation: list[Clip],
) -> NetworkSpec:
    """How a new network of this kind is fed: 224 x 224 of a 4:3 view, ImageNet's mean and std."""
    from edge.flow.spec import FlowSpec
    from edge.frames import Geometry, Normalisation
    from train.models import BACKBONE, NORMALISATION

    assert isinstance(flow, FlowSpec)
    temporal = stream == "temporal"
    return NetworkSpec(
        stream=stream,
        backbone=BACKBONE,
        classes=classes,
        geometry=Geometry(aspect=(4, 3), size_hw=(224, 224), interpolation="area"),
        flow=flow,
        # no motion is byte 128, and becomes exactly 0
        normalisation=Normalisation(mean=(128 / 255,), std=(0.226,)) if temporal else NORMALISATION,
        stack=STACK if temporal else None,
        layout="grouped" if temporal else None,
        split=split,
        train_clips=tuple(clip.name for clip in train),
        validation_clips=tuple(clip.name for clip in validation),
    )


def evaluate_command(
    data: Data,
    spatial: Annotated[Path | None, typer.Option(help="Spatial checkpoint.")] = None,
    temporal: Annotated[Path | None, typer.Option(help="Temporal checkpoint.")] = None,
    split: Annotated[int, typer.Option(help="Official split; the one trained on.")] = 1,
    samples: Annotated[int, typer.Option(help="Evenly spaced moments of each clip.")] = 19,
    cache: Cache = Path("work/cache"),
) -> None:
    """Top-1 on the test list's clips of the checkpoints' classes: each stream, and their mean."""
    console = Console(stderr=True)
    chosen = [path for path in (spatial, temporal) if path is not None]
    if not chosen:
        raise DataError("nothing to evaluate; give --spatial, --temporal or both")
    from train.checkpoint import load_checkpoint
    from train.evaluate import score_clips, top1, torch_network
    from train.ucf101 import load_split

    loaded = [load_checkpoint(path)[:2] for path in chosen]
    if len({spec.classes for _, spec in loaded}) > 1:
        raise DataError(f"{spatial} and {temporal} have different classes; evaluate them apart")
    clips = load_split(data, split).test
    streams = []
    for path, (network, spec) in zip(chosen, loaded, strict=True):
        if spec.split != split:
            raise DataError(
                f"{path} was trained on split {spec.split}; its test clips of split {split} may be "
                "training clips. Evaluate on the split it was trained on"
            )
        known = [clip for clip in clips if clip.label in spec.classes]
        if not known:
            raise DataError(f"{data}: holds no test clip of {', '.join(spec.classes)}")
        cached = fill_cache(open_cache(cache, spec), known, console)
        scores = score_clips(cached, spec, torch_network(network), spec.stack or STACK, samples)
        streams.append(scores)
        console.print(
            f"{spec.stream:9} top-1 {top1(scores, cached, spec.classes):.4f}  "
            f"({len(cached)} clips, {samples} samples each)"
        )
    if len(streams) == 2:
        console.print(f"fused     top-1 {top1(sum(streams) / 2, cached, spec.classes):.4f}")  # type: ignore[arg-type]


def _class_list(text: str, known: set[str]) -> tuple[str, ...]:
    if not text:
        return tuple(sorted(known))
    names = tuple(sorted({name.strip() for name in text.split(",") if name.strip()}))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DataError(
            f"no training clips of {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        )
    if len(names) < 2:
        raise DataError("two classes or more are needed")
    return names


def open_cache(root: Path, spec: NetworkSpec) -> ClipCache:
    from train.cache import ClipCache

    return ClipCache(root, spec.geometry, spec.flow)


def fill_cache(store: ClipCache, clips: list[Clip], console: Console) -> list[CachedClip]:
    """The clips' cached frames and flow, with a progress bar while they are computed.

    Raises DataError where a clip is too short for one stack.
    """
    found = store.fill(clips, workers=os.cpu_count() or 1)
    shown = track(found, "frames and flow", total=len(clips), console=console, transient=True)
    cached = list(shown)
    for clip in cached:
        if len(clip) <= STACK:
            raise DataError(
                f"{clip.clip.path}: {len(clip)} frames; a stack of {STACK} flows needs "
                f"{STACK + 1}; take it out of the lists"
            )
    return cached
