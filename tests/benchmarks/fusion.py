"""Late fusion on the whole first test list of UCF101: each kind, fitted on half of the groups and
judged on the other half, both ways; for each kind also over all ways to halve the groups.

    python -m tests.benchmarks.fusion [--data FILE] [--json FILE]

The clip logits are those that the authors of Hidden-Two-Stream published (FUSION_ROOT); without
them nothing is measured. The calibration error is of the judged clips, with the fused scores at
temperature 1 and at the temperature that was fitted on the other half.
"""

from __future__ import annotations

import argparse
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import FusionKind
from edge.decision.fusion import KINDS
from export.confidence import calibration_error, reliability
from tests.benchmarks.result import write_result
from tests.support.fusion_scores import CLIP_LOGITS
from train.evaluation.clip_logits import (
    Half,
    first_half,
    fit_halves,
    judged_scores,
    load_clip_logits,
)
from train.evaluation.fusion_fit import Clips, FittedFusion, fit_fusion
from train.evaluation.metrics import top_k

NETWORKS = (("spatial", "motionnet"), ("spatial", "tvl1"), ("spatial", "motionnet", "tvl1"))


def at_temperature_1(fitted: FittedFusion) -> FittedFusion:
    spec = fitted.spec.model_copy(update={"temperature": 1.0})
    return FittedFusion(fitted.temperatures, fitted.weights, spec)


def uncalibrated(half: Half) -> Half:
    fitted = {kind: at_temperature_1(fusion) for kind, fusion in half.fitted.items()}
    return Half(half.judged, fitted, half.chosen)


def measure(clips: Clips) -> list[dict[str, Any]]:
    """A row for each kind, and one for the kinds that the fitted halves choose."""
    halves = fit_halves(clips, first_half(clips))
    before = (uncalibrated(halves[0]), uncalibrated(halves[1]))
    rows = []
    for kind in (*KINDS, None):
        scores, sharp = (judged_scores(clips, each, kind) for each in (halves, before))
        chosen = " and ".join(half.chosen for half in halves)
        rows.append(
            {
                "kind": kind or f"chosen: {chosen}",
                "weights": [half.fitted[kind or half.chosen].weights for half in halves],
                "top1": round(top_k(scores, clips.truth, 1), 4),
                "calibration_error_before": round(
                    calibration_error(reliability(sharp, clips.truth)), 4
                ),
                "calibration_error": round(calibration_error(reliability(scores, clips.truth)), 4),
            }
        )
    return rows


def top1_of_all_halves(clips: Clips, kind: FusionKind) -> NDArray[np.float64]:
    """The top-1 of each way to divide the groups into halves (for seven groups, 35)."""
    groups = np.unique(clips.groups).tolist()
    found = []
    for members in combinations(groups, len(groups) // 2):
        first, right = np.isin(clips.groups, members), 0.0
        for judged in (first, ~first):
            scores = fit_fusion(kind, clips[~judged]).scores(clips[judged].logits).mean(axis=1)
            right += top_k(scores, clips.truth[judged], 1) * judged.sum()
        found.append(right / len(clips.truth))
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=CLIP_LOGITS, help="clip logits: .npz")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if not arguments.data.exists():
        print(f"skipped: no clip logits at {arguments.data}; set FUSION_ROOT", file=sys.stderr)
        return
    results = {}
    for streams in NETWORKS:
        clips = load_clip_logits(arguments.data, streams)
        rows = measure(clips)
        print(f"\n{' + '.join(streams)}: {len(clips.truth)} clips")
        for row in rows:
            line = f"{row['kind']:40} top-1 {row['top1']:.4f}  calibration error "
            line += f"{row['calibration_error_before']:.3f} -> {row['calibration_error']:.3f}"
            if row["kind"] in KINDS:
                each = top1_of_all_halves(clips, row["kind"])
                row["top1_of_all_halves"] = {
                    "mean": round(float(each.mean()), 4),
                    "min": round(float(each.min()), 4),
                    "max": round(float(each.max()), 4),
                }
                line += f"  {len(each)} divisions: {each.mean():.4f} ({each.min():.4f} to "
                line += f"{each.max():.4f})"
            print(line, flush=True)
        results["+".join(streams)] = rows
    if arguments.json:
        write_result(arguments.json, {"fusion": results})


if __name__ == "__main__":
    main()
