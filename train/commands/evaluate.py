"""`twostream evaluate`. Imports torch only once the command runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

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
from train.commands.parts import Part, evaluated_parts, refuse_trained_on, why_empty
from train.evaluation.papers import CROPS, PAPERS, SAMPLES, paper_view
from train.streams import FUSED

if TYPE_CHECKING:
    from train.data.cache import CachedClip
    from train.data.clips import Clip
    from train.evaluation.protocol import ClipScores, Protocol
    from train.evaluation.scores import SavedScores

ProtocolName = Literal["live", "very-deep", "tsn"]

SplitOption = Annotated[
    int, typer.Option(help="Official split that the networks were trained on, 1 to 3.")
]
ProtocolOption = Annotated[
    ProtocolName,
    typer.Option(
        help="live: whole views, scores averaged. tsn, very-deep: as in the paper, ten crops of "
        "224 px cut from 340 x 256 px, and its fusion weights."
    ),
]
SamplesOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Evenly spaced snippets of each clip; default: 19, of a paper's protocol 25."
    ),
]
CropsOption = Annotated[
    int | None,
    typer.Option(
        help="Views of each snippet in protocol live: 1, as in a run; or 10, corners and centre, "
        "enlarged, and mirrored."
    ),
]
OtherSplitOption = Annotated[
    bool,
    typer.Option("--other-split", help="Allow clips that the networks may have been trained on."),
]
ForFusionOption = Annotated[
    bool,
    typer.Option(
        "--for-fusion", help="Score training and validation clips, too, for `twostream fuse`."
    ),
]
ScoresOption = Annotated[
    Path | None, typer.Option(help="Save scores and features of each snippet: .npz.")
]
ReportOption = Annotated[Path | None, typer.Option(help="Save the results: .json.")]
ConfusionOption = Annotated[Path | None, typer.Option(help="Plot the confusion matrix: .png.")]
RayOption = Annotated[
    str | None, typer.Option(help="Run on a Ray cluster: local, auto or HOST:PORT.")
]


def evaluate_command(
    data: Data,
    networks: Networks = None,
    split: SplitOption = 1,
    part: Annotated[Part, typer.Option(help="Clips to evaluate.")] = "test",
    protocol: ProtocolOption = "live",
    samples: SamplesOption = None,
    crops: CropsOption = None,
    other_split: OtherSplitOption = False,
    for_fusion: ForFusionOption = False,
    scores: ScoresOption = None,
    report: ReportOption = None,
    confusion: ConfusionOption = None,
    ray: RayOption = None,
    cache: Cache = Path("work/cache"),
) -> None:
    """Top-1 and top-5 accuracy of each stream, and of their mean scores.

    The scores of a clip are the mean over evenly spaced snippets, and over crops. Figures of
    different protocols do not compare.
    """
    checkpoints = networks_by_name(networks)
    if not checkpoints:
        raise DataError("nothing to evaluate; give --network NAME=CHECKPOINT, one or more")
    if for_fusion and scores is None:
        raise DataError("--for-fusion saves scores; give --scores FILE.npz too")
    from train.data.dataset import open_dataset
    from train.evaluation.held_out import seen_by
    from train.models.checkpoint import find_checkpoint, read_metadata, read_spec

    files = {stream: find_checkpoint(path) for stream, path in checkpoints.items()}
    specs = {stream: read_spec(file, read_metadata(file)) for stream, file in files.items()}
    _check_specs(files, specs, split, other_split)
    sampling = _protocol(protocol, samples, crops, specs)
    spec = next(iter(specs.values()))
    seen = {stream: seen_by(file, specs[stream]) for stream, file in files.items()}
    scored_parts: tuple[Part, ...] = get_args(Part) if for_fusion else (part,)
    dataset = open_dataset(data, split)
    clips, contents = evaluated_parts(dataset, spec.classes, seen, scored_parts, cache)
    if not clips[part]:
        raise DataError(f"{data}: {why_empty(part, specs)}")
    if "test" in scored_parts and not other_split:
        refuse_trained_on(clips["test"], seen, contents)
    clip_scores = _score(clips, files, specs, sampling, cache, ray)
    header = {"split": split, "protocol": protocol}
    saved = _saved(clip_scores, clips, files, spec.classes, header, sampling)
    if scores is not None:
        from train.evaluation.scores import write_scores

        write_scores(scores, saved)
    _report(saved.part(part), part, other_split, report, confusion)


def _check_specs(
    files: dict[str, Path], specs: dict[str, NetworkSpec], split: int, other_split: bool
) -> None:
    for stream, spec in specs.items():
        named_as_trained(files[stream], spec.stream, stream)
        if spec.split != split and not other_split:
            raise DataError(
                f"{files[stream]} was trained on split {spec.split}; test clips of split {split} "
                "may be among its training clips; evaluate on its own split, or give --other-split"
            )
    if len({spec.classes for spec in specs.values()}) > 1:
        raise DataError("the checkpoints have different classes; evaluate them separately")


def _protocol(
    name: ProtocolName, samples: int | None, crops: int | None, specs: dict[str, NetworkSpec]
) -> Protocol:
    """Raises DataError if options do not fit the protocol, or it has no weight for a stream."""
    from train.evaluation.protocol import Protocol

    history = max(spec.input.history for spec in specs.values())
    if name == "live":
        if crops not in (None, 1, 10):
            raise DataError(f"--crops {crops}: give 1 or 10")
        return Protocol(samples or 19, crops or 1, history)
    if crops is not None:
        raise DataError(f"--crops {crops}: --protocol {name} has ten crops; leave --crops away")
    unknown = [stream for stream in specs if stream not in PAPERS[name].weights]
    if len(specs) > 1 and unknown:
        raise DataError(
            f"--protocol {name}: fuses spatial and temporal, and has no weight for {unknown[0]}"
        )
    return Protocol(samples or SAMPLES, CROPS, history, cut=True)


def _score(
    clips: dict[Part, list[Clip]],
    files: dict[str, Path],
    specs: dict[str, NetworkSpec],
    protocol: Protocol,
    cache: Path,
    ray: str | None,
) -> dict[str, dict[str, ClipScores]]:
    """Scores by stream and clip name. Clips that cannot be used are logged and left out."""
    from train.data.cache import fill_cache, open_cache
    from train.evaluation.protocol import score_clip

    scores: dict[str, dict[str, ClipScores]] = {}
    for stream, file in files.items():
        all_clips = [clip for part in clips.values() for clip in part]
        spec = specs[stream]
        if protocol.cut:
            spec = spec.model_copy(update={"geometry": paper_view(spec.geometry)})
        store = open_cache(cache.resolve(), spec)
        cached = fill_cache(store, all_clips, protocol.history)
        score = partial(score_clip, checkpoint=file.resolve(), protocol=protocol)
        pairs = _map(score, cached, ray)
        tracked = track(pairs, stream, total=len(cached))
        scores[stream] = {clip.clip.name: clip_scores for clip, clip_scores in tracked}
    return scores


def _map(
    score: Callable[[CachedClip], ClipScores], cached: list[CachedClip], ray: str | None
) -> Iterator[tuple[CachedClip, ClipScores]]:
    """Each clip with its scores, computed in this process or on a cluster."""
    if ray is None:
        return ((clip, score(clip)) for clip in cached)
    from train.data.ray_map import map_on_cluster

    return map_on_cluster(score, cached, ray)


def _saved(
    scores: dict[str, dict[str, ClipScores]],
    clips: dict[Part, list[Clip]],
    files: dict[str, Path],
    classes: tuple[str, ...],
    header: dict[str, Any],
    protocol: Protocol,
) -> SavedScores:
    from train.evaluation.scores import SavedScores

    rows = [
        (clip, part)
        for part, members in clips.items()
        for clip in members
        if all(clip.name in by_clip for by_clip in scores.values())
    ]
    names = [clip.name for clip, _ in rows]
    header = header | {
        "classes": list(classes),
        "samples": protocol.samples,
        "crops": protocol.crops,
        "checkpoints": {
            stream: {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
            for stream, file in files.items()
        },
    }
    first = next(iter(scores.values()))
    return SavedScores(
        tuple(names),
        tuple(clip.label for clip, _ in rows),
        tuple(part for _, part in rows),
        tuple(f"{clip.label}/{clip.group}" for clip, _ in rows),
        header,
        np.stack([first[name].times_s for name in names]),
        {s: np.stack([by_clip[name].scores for name in names]) for s, by_clip in scores.items()},
        {s: np.stack([by_clip[name].logits for name in names]) for s, by_clip in scores.items()},
        {s: np.stack([by_clip[name].features for name in names]) for s, by_clip in scores.items()},
    )


def _report(
    saved: SavedScores, part: str, other_split: bool, report: Path | None, picture: Path | None
) -> None:
    """Print the accuracies; write the report and the confusion matrix if they have a path."""
    from train.evaluation.metrics import confusion, right_by_class, top_k
    from train.evaluation.plots import draw_confusion
    from train.json_file import write_json

    header = saved.header
    paper = PAPERS.get(header["protocol"])
    tables = saved.logits if paper is not None and paper.before_softmax else saved.scores
    means = {stream: values.mean(axis=1) for stream, values in tables.items()}
    if len(means) > 1:
        streams = list(means.values())
        means[FUSED] = np.mean(streams, axis=0) if paper is None else paper.fuse(means)
    print_line(
        f"{part}, split {header['split']}: {len(saved.names)} clips, {header['samples']} samples "
        f"of each, {header['crops']} crop{'s' if header['crops'] > 1 else ''}"
    )
    if paper is not None:
        print_line(f"protocol {header['protocol']}: {paper}")
    if other_split:
        print_line("not comparable: clips of this part may have been trained on")
    accuracies: dict[str, Any] = {}
    for name, rows in means.items():
        counts = confusion(rows, saved.truth)
        accuracies[name] = {
            "top1": round(top_k(rows, saved.truth, 1), 4),
            "top5": round(top_k(rows, saved.truth, 5), 4),
            "right_by_class": right_by_class(counts, saved.classes),
            "confusion": counts.tolist(),
        }
        print_line(
            f"{name:9} top-1 {accuracies[name]['top1']:.4f}  top-5 {accuracies[name]['top5']:.4f}"
        )
    detailed = list(means)[-1]  # "fused" if there are several streams
    for label, right in accuracies[detailed]["right_by_class"].items():
        print_line(f"  {label:24} {right}")
    if report is not None:
        write_json(report, {**header, "part": part, "clips": len(saved.names)} | accuracies)
    if picture is not None:
        title = f"{detailed}, {len(saved.names)} {part} clips"
        draw_confusion(confusion(means[detailed], saved.truth), saved.classes, title, picture)
