"""`twostream fuse`. Imports torch only once the command runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from edge.decision.fusion import fuse
from edge.errors import DataError

if TYPE_CHECKING:
    from edge.decision.fusion import Scores
    from train.evaluation.recurrent import RecurrentFusion
    from train.evaluation.scores import SavedScores


def fuse_command(
    scores: Annotated[
        Path, typer.Argument(help="Scores of `twostream evaluate --for-fusion`: .npz.")
    ],
    report: Annotated[Path | None, typer.Option(help="Save the results: .json.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Save the causal recurrent fusion: .safetensors.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the recurrent fusion.")] = 1,
) -> None:
    """Compare ways to fuse streams: average, weights, SVM, recurrent (causal and whole clip).

    The SVM and the recurrent networks are fitted on training clips. Weights, the SVM's penalty and
    the recurrent networks' epoch are chosen on validation clips. Top-1 and top-5 are of test clips.
    """
    from train.evaluation.metrics import top_k
    from train.evaluation.recurrent import write_recurrent
    from train.evaluation.scores import load_scores
    from train.json_file import write_json

    saved = load_scores(scores)
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
    results: dict[str, Any] = {"clips": counts} | parameters
    for name, rows in fused.items():
        results[name] = {f"top{k}": round(top_k(rows, test.truth, k), 4) for k in (1, 5)}
        print(f"{name:18} top-1 {results[name]['top1']:.4f}  top-5 {results[name]['top5']:.4f}")
    print(
        "weights:", ", ".join(f"{name} {weight}" for name, weight in parameters["weights"].items())
    )
    if report is not None:
        write_json(report, results)
    if out is not None:
        write_recurrent(out, causal)


def _fuse(
    saved: SavedScores, seed: int
) -> tuple[dict[str, Scores], dict[str, Any], RecurrentFusion]:
    """Scores of the test clips by method, the chosen parameters, and the causal network."""
    from train.evaluation.fusion import fit_svm, search_weights, stacked, svm_scores
    from train.evaluation.recurrent import KINDS, Sequences, clip_scores, fit_recurrent

    parts = {name: saved.part(name) for name in ("train", "validation", "test")}
    means = {
        name: {stream: rows.mean(axis=1) for stream, rows in part.scores.items()}
        for name, part in parts.items()
    }
    truth = {name: part.truth for name, part in parts.items()}
    equal = {stream: round(1 / len(saved.scores), 4) for stream in saved.scores}
    weights = equal
    if len(truth["validation"]):
        weights = search_weights(means["validation"], truth["validation"])
    inputs = {name: stacked(scores) for name, scores in means.items()}
    svm = fit_svm(inputs["train"], truth["train"], inputs["validation"], truth["validation"])
    fused = means["test"] | {
        "average": fuse(means["test"], equal),
        "weighted": fuse(means["test"], weights),
        "svm": svm_scores(svm, inputs["test"], len(saved.classes)),
    }
    sequences = {
        name: Sequences(np.concatenate(list(part.features.values()), axis=2), truth[name])
        for name, part in parts.items()
    }
    networks = {
        kind: fit_recurrent(kind, sequences["train"], sequences["validation"], saved.classes, seed)
        for kind in KINDS
    }
    for kind, network in networks.items():
        fused[f"recurrent {kind}"] = clip_scores(network, sequences["test"].features)
    return fused, {"weights": weights, "svm_penalty": svm.C}, networks["causal"]
