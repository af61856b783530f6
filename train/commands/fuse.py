"""`twostream fuse`. Imports torch only once the command runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from edge.decision.fusion import KINDS, Scores, weighted_mean
from edge.errors import DataError

if TYPE_CHECKING:
    from train.evaluation.metrics import Truth
    from train.evaluation.recurrent import Kind, Origin, RecurrentFusion
    from train.evaluation.scores import SavedScores


def fuse_command(
    scores: Annotated[
        Path,
        typer.Argument(
            help="Scores of `twostream evaluate --for-fusion`, or clip logits of another project: "
            ".npz."
        ),
    ],
    streams: Annotated[
        list[str] | None,
        typer.Option("--stream", help="Of clip logits: stream to fuse; give it once for each."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Save the results: .json.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Save the causal recurrent fusion, for `export --fusion`: .safetensors."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the recurrent fusion.")] = 1,
) -> None:
    """Compare ways to fuse streams: average, four kinds of weighted mean, SVM, recurrent.

    The SVM and the recurrent networks are fitted on training clips. The means, the SVM's penalty
    and the epoch of the recurrent network that sees whole clips are chosen on validation clips; the
    causal one does not see them, for `export` judges it by them. Top-1 and top-5 are of test clips.
    Clip logits have no such parts: the means are fitted on the clips of half of the groups and
    judged on those of the others, both ways.
    """
    from train.evaluation.clip_logits import is_clip_logits
    from train.json_file import write_json

    if is_clip_logits(scores):
        if out is not None:
            raise DataError(f"{scores}: clip logits have no features; leave --out away")
        results = _fuse_halves(scores, tuple(streams or ()))
    else:
        if streams:
            raise DataError("--stream is for clip logits; `evaluate` takes the --network of each")
        results = _fuse_parts(scores, out, seed)
    if report is not None:
        write_json(report, results)


def _fuse_halves(path: Path, streams: tuple[str, ...]) -> dict[str, Any]:
    """Print and return the results of clip logits."""
    from train.evaluation.clip_logits import (
        first_half,
        fit_halves,
        judged_scores,
        load_clip_logits,
    )

    clips = load_clip_logits(path, streams)
    if len(clips.logits) < 2:
        raise DataError(f"{path}: one stream; fusion needs two or more")
    halves = fit_halves(clips, first_half(clips))
    count = len(clips.truth)
    print(f"{count} clips, fitted on half of the groups, judged on the others, both ways")
    fused: dict[str, Scores] = {name: values[:, 0] for name, values in clips.logits.items()}
    fused |= {kind: judged_scores(clips, halves, kind) for kind in KINDS}
    results: dict[str, Any] = {"clips": count, "kinds": [half.chosen for half in halves]}
    results |= _print_accuracies(
        fused | {"chosen": judged_scores(clips, halves, None)}, clips.truth
    )
    print("chosen:", " and ".join(half.chosen for half in halves))
    return results


def _print_accuracies(rows_by_name: dict[str, Scores], truth: Truth) -> dict[str, Any]:
    from train.evaluation.metrics import top_k

    results: dict[str, Any] = {}
    for name, rows in rows_by_name.items():
        results[name] = {f"top{k}": round(top_k(rows, truth, k), 4) for k in (1, 5)}
        print(f"{name:18} top-1 {results[name]['top1']:.4f}  top-5 {results[name]['top5']:.4f}")
    return results


def _fuse_parts(scores: Path, out: Path | None, seed: int) -> dict[str, Any]:
    """Print and return the results of saved scores."""
    from train.evaluation.recurrent import write_recurrent
    from train.evaluation.scores import load_scores

    saved = load_scores(scores)
    origin = None if out is None else _origin(scores, saved)
    if len(saved.scores) < 2:
        raise DataError(f"{scores}: has the scores of one stream; fusion needs two or more")
    test = saved.part("test")
    for part in ("train", "test"):
        if part not in saved.parts:
            raise DataError(f"{scores}: has no {part} clips; evaluate with --for-fusion")
    fused, parameters, causal = _fuse(saved, seed)
    counts = {part: saved.parts.count(part) for part in ("train", "validation", "test")}
    print(f"fitted on {counts['train']} clips, chosen on {counts['validation']}, ", end="")
    print(f"tested on {counts['test']}")
    results = {"clips": counts} | parameters | _print_accuracies(fused, test.truth)
    weights = ", ".join(f"{name} {weight}" for name, weight in parameters["weights"].items())
    print(f"chosen: {parameters['kind']}; weights: {weights}")
    print(f"rule: {parameters['kinds']['rule']}")
    if out is not None and origin is not None:
        write_recurrent(out, causal, origin)
    return results


def _origin(path: Path, saved: SavedScores) -> Origin:
    """What the causal network is fitted on. Raises DataError if a live run could not use it."""
    from train.evaluation.recurrent import Origin

    if saved.header["crops"] != 1:
        raise DataError(
            f"{path}: --out: has the scores of {saved.header['crops']} crops, a live run sees one; "
            "evaluate with --crops 1"
        )
    intervals_s = np.diff(saved.part("train").times_s)
    if not (intervals_s > 0).any():
        raise DataError(f"{path}: --out: has one sample of each clip; evaluate with --samples 19")
    interval_s = float(np.median(intervals_s[intervals_s > 0]))
    checkpoints = {s: entry["sha256"] for s, entry in saved.header["checkpoints"].items()}
    split, streams = saved.header["split"], tuple(saved.logits)
    return Origin(split, streams, checkpoints, round(max(interval_s, 1e-3), 4))


def _fuse(
    saved: SavedScores, seed: int
) -> tuple[dict[str, Scores], dict[str, Any], RecurrentFusion]:
    """Scores of the test clips by method, the chosen parameters, and the causal network."""
    from train.evaluation.fusion import fit_svm, stacked, svm_scores
    from train.evaluation.fusion_fit import Clips, choose_fusion, fit_fusion
    from train.evaluation.recurrent import KINDS as RECURRENT_KINDS
    from train.evaluation.recurrent import Sequences, clip_scores, fit_recurrent

    parts = {name: saved.part(name) for name in ("train", "validation", "test")}
    means = {
        name: {stream: rows.mean(axis=1) for stream, rows in part.scores.items()}
        for name, part in parts.items()
    }
    truth = {name: part.truth for name, part in parts.items()}
    equal = {stream: round(1 / len(saved.scores), 4) for stream in saved.scores}
    rule = {"rule": "arithmetic, equal weights: there are no validation clips to choose on"}
    parameters: dict[str, Any] = {"kind": "arithmetic", "weights": equal, "kinds": rule}
    kinds: dict[str, Scores] = {}
    if len(truth["validation"]):
        part, test = parts["validation"], parts["test"]
        clips = Clips(part.logits, part.truth, np.array(part.groups))
        chosen, table = choose_fusion(clips)
        parameters = {"kind": chosen.spec.kind, "weights": chosen.weights, "kinds": table}
        kinds = {kind: fit_fusion(kind, clips).scores(test.logits).mean(axis=1) for kind in KINDS}
    inputs = {name: stacked(scores) for name, scores in means.items()}
    svm = fit_svm(inputs["train"], truth["train"], inputs["validation"], truth["validation"])
    fused = means["test"] | {
        "average": weighted_mean(means["test"], equal),
        **kinds,
        "svm": svm_scores(svm, inputs["test"], len(saved.classes)),
    }

    def sequences(kind: Kind, name: str) -> Sequences:
        by_stream = parts[name].logits if kind == "causal" else parts[name].features
        return Sequences(np.concatenate(list(by_stream.values()), axis=2), truth[name])

    networks = {}
    for kind in RECURRENT_KINDS:
        validation = None if kind == "causal" else sequences(kind, "validation")
        train = sequences(kind, "train")
        networks[kind] = network = fit_recurrent(kind, train, validation, saved.classes, seed)
        test_inputs = sequences(kind, "test").inputs
        fused[f"recurrent {kind}"] = clip_scores(network, test_inputs)
    return fused, parameters | {"svm_penalty": svm.C}, networks["causal"]
