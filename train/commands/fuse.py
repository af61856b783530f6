"""`twostream fuse`. Imports torch only once the command runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from edge.errors import DataError

if TYPE_CHECKING:
    from edge.decision.fusion import Scores
    from train.evaluation.recurrent import RecurrentFusion
    from train.evaluation.scores import SavedScores


def fuse_command(
    scores: Annotated[Path, typer.Argument(help=".npz of `twostream evaluate --for-fusion`.")],
    report: Annotated[Path | None, typer.Option(help="Save the figures: .json.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Save the causal recurrent fusion: .safetensors.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 1,
) -> None:
    """Compare ways to fuse both streams: average, weights, SVM, and recurrent, causal and whole.

    What is learnt is learnt on training clips and chosen on validation clips; test clips report.
    """
    from train.evaluation.metrics import top_k
    from train.evaluation.recurrent import write_recurrent
    from train.evaluation.scores import load_scores
    from train.json_file import write_json

    saved = load_scores(scores)
    if set(saved.scores) != {"spatial", "temporal"}:
        raise DataError(f"{scores}: has the scores of one stream; fusion needs both")
    test = saved.part("test")
    for part in ("train", "test"):
        if part not in saved.parts:
            raise DataError(f"{scores}: has no {part} clips; evaluate with --for-fusion")
    fused, notes, causal = _fuse(saved, seed)
    counts = {part: saved.parts.count(part) for part in ("train", "validation", "test")}
    print(f"learnt on {counts['train']} clips, chosen on {counts['validation']}, ", end="")
    print(f"tested on {counts['test']}")
    figures: dict[str, Any] = {"clips": counts} | notes
    for name, rows in fused.items():
        figures[name] = {f"top{k}": round(top_k(rows, test.truth, k), 4) for k in (1, 5)}
        print(f"{name:18} top-1 {figures[name]['top1']:.4f}  top-5 {figures[name]['top5']:.4f}")
    print(f"weights: spatial {notes['spatial_weight']}, temporal {1 - notes['spatial_weight']:.2g}")
    if report is not None:
        write_json(report, figures)
    if out is not None:
        write_recurrent(out, causal)


def _fuse(
    saved: SavedScores, seed: int
) -> tuple[dict[str, Scores], dict[str, Any], RecurrentFusion]:
    """Scores of the test clips by method, what was chosen, and the causal network."""
    from train.evaluation.fusion import fit_svm, search_weight, stacked, svm_scores, weighted
    from train.evaluation.recurrent import KINDS, Sequences, clip_scores, fit_recurrent

    parts = {name: saved.part(name) for name in ("train", "validation", "test")}
    means = {
        name: (part.scores["spatial"].mean(axis=1), part.scores["temporal"].mean(axis=1))
        for name, part in parts.items()
    }
    truth = {name: part.truth for name, part in parts.items()}
    spatial, temporal = means["test"]
    held = len(truth["validation"]) > 0
    weight = search_weight(*means["validation"], truth["validation"]) if held else 0.5
    machine = fit_svm(
        stacked(*means["train"]), truth["train"], stacked(*means["validation"]), truth["validation"]
    )
    fused = {
        "spatial": spatial,
        "temporal": temporal,
        "average": weighted(spatial, temporal, 0.5),
        "weighted": weighted(spatial, temporal, weight),
        "svm": svm_scores(machine, stacked(spatial, temporal), len(saved.classes)),
    }
    sequences = {
        name: Sequences(
            np.concatenate([part.features[s] for s in ("spatial", "temporal")], axis=2),
            truth[name],
        )
        for name, part in parts.items()
    }
    networks = {
        kind: fit_recurrent(kind, sequences["train"], sequences["validation"], saved.classes, seed)
        for kind in KINDS
    }
    for kind, network in networks.items():
        fused[f"recurrent {kind}"] = clip_scores(network, sequences["test"].features)
    return fused, {"spatial_weight": weight, "svm_penalty": machine.C}, networks["causal"]
