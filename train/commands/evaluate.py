"""`twostream evaluate`. Imports torch only once the command runs."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
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
from train.streams import FUSED

if TYPE_CHECKING:
    from train.data.cache import CachedClip
    from train.data.clips import Clip, Split
    from train.evaluation.held_out import Seen
    from train.evaluation.protocol import ClipScores, Protocol
    from train.evaluation.scores import SavedScores

logger = logging.getLogger(__name__)

Part = Literal["test", "validation", "train"]


SplitOption = Annotated[
    int, typer.Option(help="Official split that the networks were trained on, 1 to 3.")
]
SamplesOption = Annotated[int, typer.Option(min=1, help="Evenly spaced snippets of each clip.")]
CropsOption = Annotated[
    int,
    typer.Option(help="Views of each snippet: 1, as in a live run; 10, corners, centre, mirrored."),
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
    samples: SamplesOption = 19,
    crops: CropsOption = 1,
    other_split: OtherSplitOption = False,
    for_fusion: ForFusionOption = False,
    scores: ScoresOption = None,
    report: ReportOption = None,
    confusion: ConfusionOption = None,
    ray: RayOption = None,
    cache: Cache = Path("work/cache"),
) -> None:
    """Top-1 and top-5 accuracy of each stream, and of their mean scores.

    The scores of a clip are the mean over evenly spaced snippets, and over crops.
    """
    checkpoints = networks_by_name(networks)
    if not checkpoints:
        raise DataError("nothing to evaluate; give --network NAME=CHECKPOINT, one or more")
    if crops not in (1, 10):
        raise DataError(f"--crops {crops}: give 1 or 10")
    if for_fusion and scores is None:
        raise DataError("--for-fusion saves scores; give --scores FILE.npz too")
    from train.data.dataset import open_dataset
    from train.evaluation.held_out import seen_by
    from train.evaluation.protocol import Protocol
    from train.models.checkpoint import find_checkpoint, read_metadata, read_spec

    files = {stream: find_checkpoint(path) for stream, path in checkpoints.items()}
    specs = {stream: read_spec(file, read_metadata(file)) for stream, file in files.items()}
    _check_specs(files, specs, split, other_split)
    spec = next(iter(specs.values()))
    seen = {stream: seen_by(file, specs[stream]) for stream, file in files.items()}
    scored_parts: tuple[Part, ...] = get_args(Part) if for_fusion else (part,)
    clips, contents = _parts(open_dataset(data, split), spec.classes, seen, scored_parts, cache)
    if not clips[part]:
        raise DataError(f"{data}: {_why_empty(part, specs)}")
    if "test" in scored_parts and not other_split:
        _refuse_trained_on(clips["test"], seen, contents)
    protocol = Protocol(samples, crops, max(spec.input.history for spec in specs.values()))
    clip_scores = _score(clips, files, specs, protocol, cache, ray)
    saved = _saved(clip_scores, clips, files, spec.classes, split, protocol)
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


def _parts(
    split: Split,
    classes: tuple[str, ...],
    seen: dict[str, Seen],
    scored: tuple[Part, ...],
    cache: Path,
) -> tuple[dict[Part, list[Clip]], dict[str, str]]:
    """The clips of the parts to be scored, and the hashes of clips by name.

    Validation clips are those that all networks held out, training clips those that none did.
    """
    from train.evaluation.held_out import hash_contents, validation_parts

    test = _of_classes("test", split.test, classes) if "test" in scored else []
    train = _of_classes("training", split.train, classes) if set(scored) - {"test"} else []
    by_content = any(network.by_content for network in seen.values())
    contents = hash_contents([*train, *test], cache) if by_content else {}
    trained, validation, mixed = validation_parts(train, list(seen.values()), contents)
    if mixed:
        logger.warning(
            "validation: %d clips that all networks held out; %d that only some held out, such as "
            "%s, are left out",
            len(validation),
            len(mixed),
            mixed[0].name,
        )
    parts: dict[Part, list[Clip]] = {"test": test, "validation": validation, "train": trained}
    return {name: parts[name] for name in scored}, contents


def _of_classes(which: str, clips: Sequence[Clip], classes: tuple[str, ...]) -> list[Clip]:
    of_classes = [clip for clip in clips if clip.label in classes]
    left_out = len(clips) - len(of_classes)
    logger.info("%s list: %d clips; %d of other classes left out", which, len(of_classes), left_out)
    return of_classes


def _why_empty(part: Part, specs: dict[str, NetworkSpec]) -> str:
    """Why no clips are left of a part, and what to do."""
    if part != "validation":
        return f"has no {part} clips of {', '.join(next(iter(specs.values())).classes)}"
    without = [stream for stream, spec in specs.items() if not spec.validation_clips]
    if without:
        return (
            f"no clips were held out of the training of {', '.join(without)}; train with "
            "--set validation.fraction=0.15, or evaluate --part test"
        )
    return (
        f"has no clip that was held out of the training of {' and '.join(specs)}; train all with "
        "the same --classes, --split and validation.fraction, or evaluate --part test"
    )


def _refuse_trained_on(clips: list[Clip], seen: dict[str, Seen], contents: dict[str, str]) -> None:
    for stream, network in seen.items():
        trained_on = [clip.name for clip in clips if network.trained_on(clip, contents)]
        if trained_on:
            raise DataError(
                f"the {stream} network was trained on {len(trained_on)} of the test clips, such as "
                f"{trained_on[0]}, so that the accuracy would mean nothing; --other-split allows it"
            )


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
        store = open_cache(cache.resolve(), specs[stream])
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
    split: int,
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

    means = {stream: values.mean(axis=1) for stream, values in saved.scores.items()}
    if len(means) > 1:
        means[FUSED] = np.mean(list(means.values()), axis=0)
    header = saved.header
    print_line(
        f"{part}, split {header['split']}: {len(saved.names)} clips, {header['samples']} samples "
        f"of each, {header['crops']} crop{'s' if header['crops'] > 1 else ''}"
    )
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
