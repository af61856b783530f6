"""Which score decides between a label and `unknown`, and what the bundle's decision reaches.

    python -m tests.benchmarks.negatives out/negatives
    python -m tests.benchmarks.decision --data DIR --negatives out/negatives [--json FILE]

Every frame of the validation and test clips of the bundle's split, and of the negatives, goes
through the live chain. Each score gets the lowest threshold at which at most 1 % of the moments
show a label: of other actions in validation clips, and of those of the choosing half of the
negatives that the networks were not trained on. It is judged on the test clips and the judging
half. `--precision fp32` does the same in FP32.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from calibration.onnx_file import load_model
from edge.bundle.manifest import Bundle, load_bundle
from edge.bundle.network import NetworkSpec
from edge.commands.self_check.choice import choose_way
from edge.decision.fusion import ScoreWindow, fuse, softmax
from edge.decision.open_set import raw_scores, summed
from edge.decision.recognizer import Recognizer, RunConfig
from edge.devices import open_device
from edge.sources.source import open_source
from edge.terminal import track
from edge.text import NO_CLASS
from export.threshold import Replay, count_events, reached
from tests.benchmarks.negatives import HALVES
from tests.benchmarks.result import write_result
from train.data.clips import Clip
from train.data.dataset import open_dataset
from train.data.folders import footage_clips

Values = NDArray[Any]
RATE = 0.01
WINDOW_S = 1.0
PARTS = ("validation", "test", *HALVES)


@dataclass(frozen=True, slots=True)
class Logits:
    """A clip's logits. label: its class or NO_CLASS. times_s: (N,). gaps: moments before which all
    is forgotten. streams: (N, C) by stream."""

    label: str
    times_s: NDArray[np.float64]
    gaps: frozenset[int]
    streams: dict[str, Values]

    def windowed(self, values: Values) -> Values:
        """The means of values (N, K) over the window, (N, K)."""
        window, rows = ScoreWindow(WINDOW_S), []
        for place, row in enumerate(values):
            if place in self.gaps:
                window.clear()
            rows.append(window.push(float(self.times_s[place]), row))
        return np.stack(rows)


def network_spec(bundle: Bundle) -> NetworkSpec:
    """What is written in the bundle's networks."""
    spec = load_model(bundle.path / next(iter(bundle.manifest.streams.values())).file)[1]
    assert spec is not None
    return spec


def split_clips(bundle: Bundle, data: Path) -> dict[str, list[Clip]]:
    """The clips that the bundle was validated and tested on."""
    spec = network_spec(bundle)
    split, held_out = open_dataset(data, spec.split), set(spec.validation_clips)
    return {
        "validation": [clip for clip in split.train if clip.name in held_out],
        "test": list(split.test),
    }


def collect(bundle: Bundle, precision: str, clips: Iterable[Clip]) -> list[Logits]:
    """The logits of all frames that a run would label. Clips that give none are left out."""
    device = open_device("cpu", bundle, precision=precision, choose=choose_way)  # type: ignore[arg-type]
    found = []
    for clip in clips:
        context = device.open_context()
        recognizer = Recognizer(bundle.manifest, context, RunConfig(), clip.name)
        times_s: list[float] = []
        gaps, seen = set[int](), 0
        rows: dict[str, list[Values]] = {stream: [] for stream in bundle.manifest.streams}
        with open_source(str(clip.path)) as source:
            for frame in source:
                submitted = recognizer.submit(frame)
                inference = None if submitted is None else submitted.future.result()
                if inference is None:
                    continue
                if recognizer.statistics.gaps > seen and times_s:
                    gaps.add(len(times_s))
                seen = recognizer.statistics.gaps
                times_s.append(frame.time_s)
                for stream, values in inference.logits.items():
                    rows[stream].append(values.copy())
        context.close()
        if times_s:
            label = clip.label if clip.label in bundle.manifest.classes else NO_CLASS
            streams = {stream: np.stack(values) for stream, values in rows.items()}
            found.append(Logits(label, np.array(times_s), frozenset(gaps), streams))
    device.close()
    return found


def kept(
    bundle: Bundle, precision: str, part: str, clips: list[Clip], folder: Path
) -> list[Logits]:
    """The logits of a part, from the folder if they are there: an interrupted call goes on."""
    streams = bundle.manifest.streams
    hashes = "-".join(bundle.manifest.files[each.file][:8] for each in streams.values())
    file = folder / f"{part}-{precision}-{hashes}.npz"
    if not file.exists():
        found = collect(bundle, precision, track(clips, f"{part}, {precision}", len(clips)))
        save(file, found)
    with np.load(file) as arrays:
        return [
            Logits(
                str(label),
                arrays[f"times_{n}"],
                frozenset(arrays[f"gaps_{n}"].tolist()),
                {stream: arrays[f"{stream}_{n}"] for stream in streams},
            )
            for n, label in enumerate(arrays["labels"])
        ]


def save(file: Path, clips: list[Logits]) -> None:
    arrays = {"labels": np.array([clip.label for clip in clips])}
    for n, clip in enumerate(clips):
        arrays |= {f"times_{n}": clip.times_s, f"gaps_{n}": np.array(sorted(clip.gaps), np.int64)}
        arrays |= {f"{stream}_{n}": values for stream, values in clip.streams.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **arrays)  # type: ignore[arg-type]


def smaller_margin(clip: Logits) -> Values:
    margins = [raw_scores("margin", clip.windowed(v)) for v in clip.streams.values()]
    return np.min(margins, axis=0)


def less_disagreement(clip: Logits) -> Values:
    """The margin less half of the distance between the streams' margins."""
    first, *rest = (raw_scores("margin", clip.windowed(v)) for v in clip.streams.values())
    return sum(rest, first) - sum(abs(first - other) for other in rest) / 2  # type: ignore[no-any-return]


def energy(clip: Logits) -> Values:
    """Of the summed logits (Liu et al., 2020), at the best class; lower at the others."""
    mean = clip.windowed(summed(clip.streams))
    total = np.log(np.exp(mean).sum(axis=1, keepdims=True))
    return mean - mean.max(axis=1, keepdims=True) + total  # type: ignore[no-any-return]


def over_the_second(clip: Logits) -> Values:
    mean = clip.windowed(summed(clip.streams))
    best, second = -np.sort(-mean, axis=1)[:, :2].T
    return np.where(mean == best[:, None], (best - second)[:, None], mean - best[:, None])


def confidence(bundle: Bundle) -> Callable[[Logits], Values]:
    """What decided before: fused by the manifest, with its temperatures."""
    streams, fusion = bundle.manifest.streams, bundle.manifest.fusion
    temperatures = {name: stream.temperature for name, stream in streams.items()}
    weights = {name: stream.weight for name, stream in streams.items()}
    return lambda clip: clip.windowed(fuse(clip.streams, temperatures, weights, fusion))


def background(clips: list[Logits]) -> Callable[[Logits], Values]:
    """The margin's best class, scored by a logistic regression that tells own from other moments by
    the logits of all streams, each clip counted once."""
    rows = [np.hstack([clip.windowed(v) for v in clip.streams.values()]) for clip in clips]
    own = np.concatenate(
        [np.full(len(r), c.label != NO_CLASS) for r, c in zip(rows, clips, strict=True)]
    )
    weights = np.concatenate([np.full(len(row), 1 / len(row)) for row in rows])
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000)
    model.fit(np.vstack(rows), own, weights)

    def score(clip: Logits) -> Values:
        row = np.hstack([clip.windowed(v) for v in clip.streams.values()])
        mean = clip.windowed(summed(clip.streams))
        return mean - mean.max(axis=1, keepdims=True) + model.decision_function(row)[:, None]  # type: ignore[no-any-return]

    return score


def kinds(bundle: Bundle, parts: dict[str, list[Logits]]) -> dict[str, Callable[[Logits], Values]]:
    found: dict[str, Callable[[Logits], Values]] = {
        "confidence, as before": confidence(bundle),
        "mean of softmaxes": lambda c: c.windowed(
            np.mean([softmax(v, 1.0) for v in c.streams.values()], axis=0)
        ),
        "softmax of the mean of logits": lambda c: softmax(
            c.windowed(np.mean(list(c.streams.values()), axis=0)), 1.0
        ),
        "maximal logit": lambda c: c.windowed(summed(c.streams)),
        "energy": energy,
        "margin over the second": over_the_second,
        "smaller margin of both streams": smaller_margin,
        "margin less disagreement": less_disagreement,
        "background class": background([*parts["validation"], *parts["choosing"]]),
        "margin over the mean of the others": lambda c: raw_scores(
            "margin", c.windowed(summed(c.streams))
        ),
    }
    for stream in bundle.manifest.streams:
        found[f"margin, {stream} alone"] = lambda c, stream=stream: raw_scores(
            "margin", c.windowed(c.streams[stream])
        )
    return found


def judge(
    score: Callable[[Logits], Values], parts: dict[str, list[Logits]], classes: tuple[str, ...]
) -> dict[str, float]:
    """A row of the table, without the hold."""

    def best(part: str, own: bool) -> tuple[Values, Values]:
        """(best scores, whether the best class is right) of all moments."""
        clips = [clip for clip in parts[part] if (clip.label != NO_CLASS) == own]
        scores = [score(clip) for clip in clips]
        right = [
            each.argmax(axis=1) == (classes.index(clip.label) if own else -1)
            for clip, each in zip(clips, scores, strict=True)
        ]
        return np.concatenate([each.max(axis=1) for each in scores]), np.concatenate(right)

    threshold = max(
        float(np.quantile(best(part, False)[0], 1 - RATE)) for part in ("validation", "choosing")
    )
    own, right = best("test", True)
    other, _ = best("test", False)
    at_rate = np.quantile(other, 1 - RATE)
    own_or_other = np.repeat([True, False], [len(own), len(other)])
    return {
        "best_class_right": round(float(right.mean()), 4),
        "auroc": round(float(roc_auc_score(own_or_other, np.concatenate([own, other]))), 4),
        "right_at_rate": round(float((right & (own > at_rate)).mean()), 4),
        "threshold": round(threshold, 4),
        "right": round(float((right & (own > threshold)).mean()), 4),
        "other": round(float((other > threshold).mean()), 4),
        "judging": round(float((best("judging", False)[0] > threshold).mean()), 4),
    }


def as_replay(clip: Logits, classes: tuple[str, ...]) -> Replay:
    truth = None if clip.label == NO_CLASS else classes.index(clip.label)
    return Replay(clip.times_s, clip.windowed(summed(clip.streams)), clip.gaps, truth)


def of_bundle(bundle: Bundle, parts: dict[str, list[Logits]], hold: float) -> dict[str, Any]:
    """What the bundle's decision reaches, with this hold."""
    classes = bundle.manifest.classes
    spec = bundle.manifest.decision.model_copy(update={"hold": hold})
    clips = {part: [as_replay(c, classes) for c in parts[part]] for part in parts}
    own, others = (
        [c for c in clips["test"] if (c.truth is not None) == wanted] for wanted in (True, False)
    )
    found = {half: count_events(clips[half], spec, classes).model_dump() for half in HALVES}
    return {"hold": hold, "test": reached(own, others, spec).model_dump()} | found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("edge/bundles/ucf101-mini"))
    parser.add_argument("--data", type=Path, required=True, help="UCF101")
    parser.add_argument("--negatives", type=Path, required=True)
    parser.add_argument("--precision", choices=("int8", "fp32"), default="int8")
    parser.add_argument("--logits", type=Path, default=Path("work/decision"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle)
    footage = {half: footage_clips(arguments.negatives / half) for half in HALVES}
    seen = set(network_spec(bundle).train_clips)
    footage["choosing"] = [clip for clip in footage["choosing"] if clip.name not in seen]
    clips = split_clips(bundle, arguments.data) | footage
    parts = {
        part: kept(bundle, arguments.precision, part, clips[part], arguments.logits)
        for part in PARTS
    }
    scores = {}
    print(f"{'score':36} best right  AUROC  right at 1 %   threshold: right  other  judging")
    for name, score in kinds(bundle, parts).items():
        row = scores[name] = judge(score, parts, bundle.manifest.classes)
        print(
            f"{name:36} {row['best_class_right']:10.3f} {row['auroc']:6.3f} "
            f"{row['right_at_rate']:13.3f} {row['threshold']:11.3f}: {row['right']:5.3f} "
            f"{row['other']:6.4f}  {row['judging']:.4f}"
        )
    held = []
    if bundle.manifest.decision.kind == "margin":
        held = [of_bundle(bundle, parts, hold) for hold in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)]
    for row in held:
        test, free = row["test"], row["judging"]
        print(
            f"hold {row['hold']}: right {test['right']['share']:.3f}, wrong "
            f"{test['wrong']['share']:.3f}, other {test['other']['share']:.4f}; {free['events']} "
            f"events in {free['seconds'] / 60:.1f} minutes of the judging half"
        )
    if arguments.json:
        found = {"precision": arguments.precision, "scores": scores, "decision": held}
        write_result(arguments.json, found)


if __name__ == "__main__":
    main()
