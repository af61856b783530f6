"""What a pair of networks is worth: accuracy, agreement of INT8 with FP32, threshold, speed."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bundle import Bundle, FusionSpec
from edge.devices import open_device
from edge.flow.tvl1 import TVL1
from edge.fusion import Scores, ScoreWindow, fuse
from edge.network import NetworkSpec
from edge.report import summary_record
from edge.runtime import Recogniser, RunConfig, recognise
from edge.source import open_source
from train.cache import STACK, CachedClip
from train.figures import confusion, right_by_class, top_k
from train.fusion import search_weight
from train.protocol import Network, Protocol, sample_scores, true_classes
from train.samples import evenly_spaced

SAMPLES = 19  # moments of a clip: the protocol of the field
PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True)
class ClipScores:
    """Scores of some clips: by stream ("spatial", "temporal", "fused") and precision.

    moments[stream, precision]: (clips, SAMPLES, C) softmax scores at evenly spaced moments.
    """

    clips: list[CachedClip]
    classes: tuple[str, ...]
    moments: dict[tuple[str, str], Scores]

    @property
    def truth(self) -> NDArray[np.int64]:
        """The number of each clip's class, (clips,)."""
        return true_classes(self.clips, self.classes)

    def mean(self, stream: str, precision: str) -> Scores:
        """One row a clip, (clips, C)."""
        return self.moments[stream, precision].mean(axis=1)


def score_moments(
    clips: list[CachedClip],
    specs: dict[str, NetworkSpec],
    networks: dict[tuple[str, str], Network],
) -> ClipScores:
    """Run both streams in both precisions over the clips; nothing is fused yet."""
    protocol = Protocol(SAMPLES, crops=1)
    moments = {
        (stream, precision): np.stack(
            [sample_scores(clip, specs[stream], network, protocol) for clip in clips]
        )
        for (stream, precision), network in networks.items()
    }
    return ClipScores(clips, specs["spatial"].classes, moments)


def fuse_moments(scores: ClipScores, fusion: FusionSpec) -> ClipScores:
    """The same with the stream "fused"."""
    fused = {
        ("fused", precision): fuse(
            scores.moments["spatial", precision], scores.moments["temporal", precision], fusion
        )
        for precision in PRECISIONS
    }
    return replace(scores, moments=scores.moments | fused)


def fit_weights(scores: ClipScores, fusion: FusionSpec) -> FusionSpec:
    """Weights, in twentieths, with the best INT8 top-1 of these clips; among equals those with the
    best log-likelihood. Neither stream gets less than 0.3: with few clips one could be shut out.
    """
    spatial, temporal = (scores.mean(stream, "int8") for stream in ("spatial", "temporal"))
    weight = search_weight(spatial, temporal, scores.truth, least=0.3)
    temporal_weight = round(1 - weight, 2)
    update = {"spatial_weight": weight, "temporal_weight": temporal_weight}
    return fusion.model_copy(update=update)


def accuracy_report(scores: ClipScores) -> dict[str, Any]:
    """Top-1 of each stream and precision, and how INT8 departs from FP32."""
    report: dict[str, Any] = {"clips": len(scores.clips), "samples_per_clip": SAMPLES}
    for stream in ("spatial", "temporal", "fused"):
        fp32, int8 = (scores.mean(stream, precision) for precision in PRECISIONS)
        moved = fp32.argmax(axis=1) != int8.argmax(axis=1)
        difference = np.abs(scores.moments[stream, "fp32"] - scores.moments[stream, "int8"])
        report[stream] = {
            "top1_fp32": round(top_k(fp32, scores.truth, 1), 4),
            "top1_int8": round(top_k(int8, scores.truth, 1), 4),
            "clips_with_another_top1": int(moved.sum()),
            "mean_score_difference": round(float(difference.mean()), 5),
            "right_int8_by_class": right_by_class(confusion(int8, scores.truth), scores.classes),
        }
    return report


def windowed(scores: ClipScores, window_s: float) -> Scores:
    """The INT8 scores that the runtime's window would hold at each moment, (clips, SAMPLES, C)."""
    rows = []
    for clip, fused in zip(scores.clips, scores.moments["fused", "int8"], strict=True):
        window = ScoreWindow(window_s)
        moments = evenly_spaced(len(clip), STACK, SAMPLES)
        rows.append([window.push(clip.times_s[i], s) for i, s in zip(moments, fused, strict=True)])
    return np.array(rows, np.float32)


def choose_threshold(known: Scores, right: NDArray[np.bool_], others: Scores) -> float:
    """The threshold with the best balance of two shares: decisions on the bundle's classes that
    are right and shown, and decisions on other actions that are not shown. Of those within a point
    of the best it is the highest: most of the time a camera sees none of the actions.

    known: best scores (N,) on clips of the classes; right: (N,) whether the best class is theirs;
    others: best scores (M,) on clips of other actions.
    """
    candidates = np.arange(0.2, 0.96, 0.01)
    balance = np.array(
        [((right & (known >= t)).mean() + (others < t).mean()) / 2 for t in candidates]
    )
    return round(float(candidates[balance >= balance.max() - 0.01].max()), 2)


def threshold_report(
    scores: ClipScores, others: ClipScores, fusion: FusionSpec
) -> dict[str, float]:
    """How often the runtime shows the right class, a wrong one, or one where there is none."""
    known, none = windowed(scores, fusion.window_s), windowed(others, fusion.window_s)
    right, shown = _right(scores, known), known.max(axis=-1) >= fusion.threshold
    return {
        "shown_and_right": round(float((right & shown).mean()), 4),
        "shown_and_wrong": round(float((~right & shown).mean()), 4),
        "other_actions_shown": round(float((none.max(axis=-1) >= fusion.threshold).mean()), 4),
    }


def fit_threshold(scores: ClipScores, others: ClipScores, window_s: float) -> float:
    known, none = windowed(scores, window_s), windowed(others, window_s)
    best = known.max(axis=-1).ravel()
    return choose_threshold(best, _right(scores, known).ravel(), none.max(axis=-1).ravel())


def _right(scores: ClipScores, moments: Scores) -> NDArray[np.bool_]:
    return moments.argmax(axis=-1) == scores.truth[:, None]


def run_speed(bundle: Bundle, videos: list[Path]) -> dict[str, Any]:
    """`twostream run` without outputs over some videos: rate, and the stages of the last one."""
    device = open_device("cpu", bundle, print)
    frames, seconds, duration_s = 0, 0.0, 0.0
    try:
        for video in videos:
            device.clear()
            recogniser = Recogniser(bundle.manifest, device, RunConfig())
            with open_source(str(video)) as source:
                recognise(source, False, recogniser, lambda label: None)
            summary = summary_record(recogniser, device.description, 0, None, [])
            frames += summary["frames"]
            seconds += summary["seconds"]
            duration_s += recogniser.statistics.last_time_s
    finally:
        device.close()
    return {
        "videos": len(videos),
        "frames": frames,
        "frames_per_second": round(frames / seconds, 1),
        "times_faster_than_the_clips": round(duration_s / seconds, 2),
        "stages_ms": summary["stages_ms"],
        "device": device.description,
    }


def flow_speed(bundle: Bundle, clip: CachedClip, pairs: int = 40) -> dict[str, float]:
    """TV-L1 at the model's size beside OpenCV's DIS (medium), in turns, one thread each."""
    manifest = bundle.manifest
    tvl1 = TVL1(manifest.flow, manifest.geometry.size_hw)
    tvl1.warm_up()
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    blank = np.zeros((*manifest.geometry.size_hw, 2), np.float32)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    times: dict[str, list[float]] = {"tvl1": [], "dis": []}
    for index in range(min(pairs, len(clip) - 1)):
        before, after = clip.frame(index).y, clip.frame(index + 1).y
        for name, measure in (
            ("tvl1", lambda a=before, b=after: tvl1(a, b)),
            ("dis", lambda a=before, b=after: dis.calc(a, b, blank)),
        ):
            started = time.perf_counter()
            measure()
            times[name].append((time.perf_counter() - started) * 1e3)
    cv2.setNumThreads(threads)
    ours, theirs = (float(np.median(times[name])) for name in ("tvl1", "dis"))
    return {
        "tvl1_ms": round(ours, 2),
        "dis_medium_ms": round(theirs, 2),
        "ratio_to_dis_medium": round(ours / theirs, 2),
    }
