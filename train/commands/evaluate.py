"""`twostream evaluate`. Imports torch only once the command runs."""

from __future__ import annotations

import hashlib
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

from edge.bundle.network import NetworkSpec
from edge.errors import DataError
from edge.terminal import track
from edge.text import print_line
from train.commands.arguments import (
    Cache,
    Data,
    Networks,
    named_as_trained,
    networks_by_name,
)
from train.streams import FUSED

if TYPE_CHECKING:
    from train.data.cache import CachedClip
    from train.data.clips import Clip, Split
    from train.evaluation.protocol import ClipScores, Protocol
    from train.evaluation.scores import SavedScores

logger = logging.getLogger(__name__)

Part = Literal["test", "validation", "train"]


def evaluate_command(
    data: Data,
    networks: Networks = None,
    split: Annotated[int, typer.Option(help="Official split; the one trained on.")] = 1,
    part: Annotated[Part, typer.Option(help="Which clips.")] = "test",
    samples: Annotated[int, typer.Option(min=1, help="Evenly spaced moments of each clip.")] = 19,
    crops: Annotated[
        int, typer.Option(help="1: the whole view, as live; 10: corners, centre, and mirrored.")
    ] = 1,
    other_split: Annotated[
        bool,
        typer.Option("--other-split", help="Evaluate clips that may have been trained on."),
    ] = False,
    for_fusion: Annotated[
        bool, typer.Option("--for-fusion", help="Score all parts: for `twostream fuse`.")
    ] = False,
    scores: Annotated[Path | None, typer.Option(help="Save scores and features: .npz.")] = None,
    report: Annotated[Path | None, typer.Option(help="Save the figures: .json.")] = None,
    confusion: Annotated[
        Path | None, typer.Option(help="Draw who is taken for whom: .png.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Work on a Ray cluster: local, auto or HOST:PORT.")
    ] = None,
    cache: Cache = Path("work/cache"),
) -> None:
    """Top-1 and top-5 by the protocols of the field: each stream, and their mean."""
    chosen = networks_by_name(networks)
    if not chosen:
        raise DataError("nothing to evaluate; give --network NAME=CHECKPOINT, one or more")
    if crops not in (1, 10):
        raise DataError(f"{crops} crops are no protocol; give 1 or 10")
    if for_fusion and scores is None:
        raise DataError("--for-fusion saves scores; say where, with --scores FILE.npz")
    from train.data.dataset import open_dataset
    from train.evaluation.protocol import Protocol
    from train.models.checkpoint import find_checkpoint, read_metadata, read_spec

    files = {stream: find_checkpoint(path) for stream, path in chosen.items()}
    specs = {stream: read_spec(file, read_metadata(file)) for stream, file in files.items()}
    _check_specs(files, specs, split, other_split)
    classes = next(iter(specs.values())).classes
    parts = _parts(open_dataset(data, split), next(iter(specs.values())))
    wanted = list(parts) if for_fusion else [part]
    clips = {name: _of_classes(name, parts[name], classes) for name in wanted}
    if not clips[part]:
        raise DataError(f"{data}: holds no {part} clip of {', '.join(classes)}")
    if "test" in wanted and not other_split:
        _refuse_seen(clips["test"], specs)
    history = max(spec.input.history for spec in specs.values())
    protocol = Protocol(samples, crops, history)
    found = _score(clips, files, specs, protocol, cache, ray)
    saved = _saved(found, clips, files, classes, split, protocol)
    if scores is not None:
        from train.evaluation.scores import write_scores

        write_scores(scores, saved)
    _report(saved.part(part), part, other_split, report, confusion)


def _check_specs(
    files: dict[str, Path], specs: dict[str, NetworkSpec], split: int, other: bool
) -> None:
    for stream, spec in specs.items():
        named_as_trained(files[stream], spec.stream, stream)
        if spec.split != split and not other:
            raise DataError(
                f"{files[stream]} was trained on split {spec.split}; test clips of split {split} "
                "may be among its training clips. Evaluate on its own, or say --other-split"
            )
    if len({spec.classes for spec in specs.values()}) > 1:
        raise DataError("the checkpoints have different classes; evaluate them apart")


def _parts(split: Split, spec: NetworkSpec) -> dict[str, list[Clip]]:
    """What the first checkpoint has trained on, chosen by, and not seen."""
    held = set(spec.validation_clips)
    return {
        "train": [clip for clip in split.train if clip.name not in held],
        "validation": [clip for clip in split.train if clip.name in held],
        "test": list(split.test),
    }


def _of_classes(part: str, clips: list[Clip], classes: tuple[str, ...]) -> list[Clip]:
    found = [clip for clip in clips if clip.label in classes]
    others = len(clips) - len(found)
    logger.info("%s: %d clips; %d of other classes left out", part, len(found), others)
    return found


def _refuse_seen(clips: list[Clip], specs: dict[str, NetworkSpec]) -> None:
    for stream, spec in specs.items():
        seen = [clip.name for clip in clips if clip.name in set(spec.train_clips)]
        if seen:
            raise DataError(
                f"{len(seen)} test clips were trained on by the {stream} network, the first is "
                f"{seen[0]}; the figure would mean nothing. --other-split gives it all the same"
            )


def _score(
    clips: dict[str, list[Clip]],
    files: dict[str, Path],
    specs: dict[str, NetworkSpec],
    protocol: Protocol,
    cache: Path,
    ray: str | None,
) -> dict[str, dict[str, ClipScores]]:
    """By stream and clip name; clips that cannot be used are left out and told."""
    from train.data.cache import fill_cache, open_cache
    from train.evaluation.protocol import score_clip

    found: dict[str, dict[str, ClipScores]] = {}
    for stream, file in files.items():
        every = [clip for part in clips.values() for clip in part]
        cached = fill_cache(open_cache(cache.resolve(), specs[stream]), every, protocol.history)
        work = partial(score_clip, checkpoint=file.resolve(), protocol=protocol)
        pairs = _work(work, cached, ray)
        shown = track(pairs, stream, total=len(cached))
        found[stream] = {clip.clip.name: one for clip, one in shown}
    return found


def _work(work: Any, cached: list[CachedClip], ray: str | None) -> Any:
    if ray is None:
        return ((clip, work(clip)) for clip in cached)
    from train.data.ray_map import map_on_cluster

    return map_on_cluster(work, cached, ray)


def _saved(
    found: dict[str, dict[str, ClipScores]],
    clips: dict[str, list[Clip]],
    files: dict[str, Path],
    classes: tuple[str, ...],
    split: int,
    protocol: Protocol,
) -> SavedScores:
    from train.evaluation.scores import SavedScores

    rows = [
        (clip, part)
        for part, members in clips.items()
        for clip in members
        if all(clip.name in table for table in found.values())
    ]
    names = [clip.name for clip, _ in rows]
    header = {
        "classes": list(classes),
        "split": split,
        "samples": protocol.samples,
        "crops": protocol.crops,
        "checkpoints": {
            stream: {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
            for stream, file in files.items()
        },
    }
    return SavedScores(
        tuple(names),
        tuple(clip.label for clip, _ in rows),
        tuple(part for _, part in rows),
        header | {"format": 1},
        {s: np.stack([table[name].scores for name in names]) for s, table in found.items()},
        {s: np.stack([table[name].features for name in names]) for s, table in found.items()},
    )


def _report(
    saved: SavedScores, part: str, other: bool, report: Path | None, picture: Path | None
) -> None:
    """Figures on standard output, and where else they are asked for."""
    from train.evaluation.metrics import confusion, right_by_class, top_k
    from train.evaluation.plots import draw_confusion
    from train.json_file import write_json

    means = {stream: values.mean(axis=1) for stream, values in saved.scores.items()}
    if len(means) > 1:
        means[FUSED] = np.mean(list(means.values()), axis=0)
    header = saved.header
    print_line(
        f"{part}, split {header['split']}: {len(saved.names)} clips, {header['samples']} samples "
        f"of each, {header['crops']} crop{'s' if header['crops'] > 1 else ''}"
    )
    if other:
        print_line("not comparable: clips of this part may have been trained on")
    figures: dict[str, Any] = {}
    for name, rows in means.items():
        counts = confusion(rows, saved.truth)
        figures[name] = {
            "top1": round(top_k(rows, saved.truth, 1), 4),
            "top5": round(top_k(rows, saved.truth, 5), 4),
            "right_by_class": right_by_class(counts, saved.classes),
            "confusion": counts.tolist(),
        }
        print_line(f"{name:9} top-1 {figures[name]['top1']:.4f}  top-5 {figures[name]['top5']:.4f}")
    best = list(means)[-1]
    for label, right in figures[best]["right_by_class"].items():
        print_line(f"  {label:24} {right}")
    if report is not None:
        write_json(report, {**header, "part": part, "clips": len(saved.names)} | figures)
    if picture is not None:
        title = f"{best}, {len(saved.names)} {part} clips"
        draw_confusion(confusion(means[best], saved.truth), saved.classes, title, picture)
