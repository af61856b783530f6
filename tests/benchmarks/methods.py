"""Every way of seeing motion and time beside one another: cross-validated, and what each costs.

    python -m tests.benchmarks.methods --data UCF101 [--methods "A;B"] [--folds N] [--json FILE]
        [--picture FILE]

Each method is trained on folds by group, the same for all, and tested on the same 19 snippets of
each clip. All see pictures of 112 x 112, so that every training takes minutes on two cores: the
figures compare methods with one another and not with the demo bundle, which sees 224 x 224. A call
that was stopped goes on with the folds that are missing.

Times are processor time of all threads: of the motion of a frame, and of the FP32 network.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from edge.bundle.tensor_names import INPUT
from edge.motion.method import METHODS as MOTIONS
from edge.spec import Spec
from edge.video.frames import resize_to_model
from export.graph import export_graph
from tests.benchmarks.codec_motion import processor_ms, read
from tests.benchmarks.result import write_result
from train.commands.arguments import motion_spec
from train.commands.train_motion import motion_net_spec, motion_recipe, train_motion
from train.data.cache import fill_cache, open_cache
from train.data.clips import Clip
from train.data.dataset import open_dataset
from train.data.splits import folds, hold_out
from train.evaluation.metrics import top_k
from train.evaluation.protocol import mean_scores, torch_network, true_classes
from train.models.checkpoint import load_checkpoint
from train.models.online import OnlineNetwork
from train.recipe import load_recipe
from train.training.job import Job, JobOptions, run_job
from train.training.motion import CHECKPOINT

CLASSES = ("Diving", "Drumming", "JugglingBalls", "JumpRope", "SkyDiving", "Surfing", "Swing")
FOLDS = 3
SAMPLES = 19
HISTORY = 10  # frames before the first snippet's newest, for all methods
SMALL = ("network.size_px=112", "augmentation.size_px=0", "sampling.negatives=0.0")
TIMED = 60  # frames
LEARNED = "network"
MOTION_STEPS, MOTION_BATCH = 1200, 24

Scores = NDArray[np.float32]
Tested = tuple[Scores, NDArray[np.int64]]  # mean scores (clips, C), true classes (clips,)


@dataclass(frozen=True, slots=True)
class Method:
    """stream, recipe, motion, changes: as for `twostream train`; the motion LEARNED is a network of
    motion that learns from the fold's clips. start: the method whose network it starts from;
    teacher: the one whose scores it learns from. Both are of the same fold."""

    stream: str
    recipe: str = "default"
    motion: str = "fast"
    changes: tuple[str, ...] = ()
    start: str | None = None
    teacher: str | None = None


METHODS = {
    "spatial": Method("spatial"),
    "tvl1": Method("temporal"),
    "codec": Method("temporal", motion="codec"),
    "codec, from tvl1": Method("temporal", motion="codec", start="tvl1"),
    "codec, taught": Method("temporal", motion="codec", teacher="tvl1"),
    "tsm": Method("spatial", recipe="tsm"),
    "tsm, from spatial": Method(
        "spatial", recipe="tsm", changes=("optimiser.rate=3e-4",), start="spatial"
    ),
    "codec, from tvl1 and taught": Method("temporal", motion="codec", start="tvl1", teacher="tvl1"),
    "motionnet": Method("temporal", motion=LEARNED, start="tvl1"),
}


def train(method: Method, clips: list[Clip], runs: dict[str, Path], options: JobOptions) -> Path:
    """The checkpoint of a method on a fold's training clips. runs: of the methods before it."""
    changes = [*SMALL, *method.changes]
    if method.start is not None:
        changes.append(f"network.weights={runs[method.start]}")
    if method.teacher is not None:
        changes.append(f"teacher.checkpoint={runs[method.teacher]}")
    recipe = load_recipe(method.recipe, method.stream, tuple(changes))
    learnt, held = hold_out(clips, CLASSES, recipe.validation.fraction)
    motion = method.motion
    if motion == LEARNED:
        checkpoint = learn_motion(learnt, held, options)
        motion = f"{LEARNED}={checkpoint}"
        changes.append(f"motion.checkpoint={checkpoint}")
        recipe = load_recipe(method.recipe, method.stream, tuple(changes))
    spec = motion_spec(motion)
    return run_job(Job(method.stream, CLASSES, 1, learnt, held, recipe, spec), options)


def learn_motion(learnt: list[Clip], held: list[Clip], options: JobOptions) -> Path:
    """The checkpoint of a network of motion, beside the run that uses it."""
    out = options.out / "motion"
    if (out / CHECKPOINT).is_file():
        return out / CHECKPOINT
    recipe = motion_recipe("motionnet_small", "none", 1.0, MOTION_STEPS, MOTION_BATCH, None, 1)
    spec = motion_net_spec("motionnet_small", recipe, 10, 112, 1, learnt, held)
    return train_motion(spec, learnt, held, out, True, 1, options.cache)


def judge(checkpoint: Path, clips: list[Clip], cache: Path) -> Tested:
    """The mean scores (clips, C) of a network, and the true classes (clips,)."""
    network, spec, _ = load_checkpoint(checkpoint)
    cached = fill_cache(open_cache(cache, spec), clips, HISTORY)
    scores = mean_scores(cached, spec, torch_network(network), SAMPLES, HISTORY)
    return scores, true_classes(cached, CLASSES)


def network_cost(checkpoint: Path) -> dict[str, float]:
    """Of one input: multiplications in 10^9, parameters, bytes of the input, processor time."""
    network, spec, _ = load_checkpoint(checkpoint)
    shapes = {INPUT: spec.input_shape, **spec.state}
    inputs = {name: torch.zeros(shape) for name, shape in shapes.items()}
    step = network.step if isinstance(network, OnlineNetwork) else network
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        step(*inputs.values())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        export_graph(network, spec, file)
        request = openvino.compile_model(file).create_infer_request()
    arrays = {name: each.numpy() for name, each in inputs.items()}
    request.infer(arrays)
    milliseconds = processor_ms(lambda: [request.infer(arrays) for _ in range(TIMED)], TIMED)
    return {
        "gmac": counter.get_total_flops() / 2e9,
        "parameters": sum(each.numel() for each in network.parameters()),
        "input_bytes": inputs[INPUT].nbytes,
        "network_ms": milliseconds,
    }


def motion_cost(spec: Spec, checkpoint: Path, clip: Path) -> float:
    """Processor time of a frame's motion, in ms; with vectors, of what decoding takes longer."""
    geometry = load_checkpoint(checkpoint)[1].geometry
    method = MOTIONS[spec.method]  # type: ignore[attr-defined]
    measure = method.open(spec, geometry.size_hw)
    frames = [resize_to_model(f, geometry) for f in read(clip, method.needs_vectors, TIMED)]
    pairs = list(pairwise(frames))

    def all_pairs() -> None:
        for pair in pairs:
            measure(*pair)

    all_pairs()  # compiles
    cost = processor_ms(all_pairs, len(pairs))
    if method.needs_vectors:
        plain, with_vectors = (
            processor_ms(lambda v=vectors: read(clip, v, TIMED), TIMED) for vectors in (False, True)
        )
        cost += max(with_vectors - plain, 0.0)
    return cost


def cost(method: Method, checkpoint: Path, clip: Path) -> dict[str, float]:
    needs_motion = load_checkpoint(checkpoint)[1].input.motion is not None
    motion_ms = motion_cost(motion_spec(method.motion), checkpoint, clip) if needs_motion else 0.0
    return {"motion_ms": motion_ms} | network_cost(checkpoint)


def cross_validate(
    names: list[str], clips: list[Clip], count: int, options: JobOptions
) -> tuple[dict[str, list[Tested]], dict[str, Path]]:
    """By method, of each fold what it gives for the test clips; and the last fold's networks."""
    found: dict[str, list[Tested]] = {name: [] for name in names}
    for number, (learnt, tested) in enumerate(folds(clips, CLASSES, FOLDS)[:count], 1):
        runs: dict[str, Path] = {}
        for name in names:
            place = options.out / f"fold{number}" / name.replace(", ", "-").replace(" ", "-")
            at = JobOptions(place, "auto", None, 300.0, 1, options.cache)
            runs[name] = train(METHODS[name], learnt, runs, at)
            found[name].append(judge(runs[name], tested, options.cache))
            scores, truth = found[name][-1]
            print(f"fold {number}  {name:28} top-1 {top_k(scores, truth, 1):.4f}", flush=True)
    return found, runs


def top1(rows: list[Scores], truths: list[NDArray[np.int64]]) -> dict[str, Any]:
    values = [top_k(scores, truth, 1) for scores, truth in zip(rows, truths, strict=True)]
    spread = round(float(np.std(values, ddof=1)), 4) if len(values) > 1 else None
    return {
        "folds": [round(value, 4) for value in values],
        "mean": round(float(np.mean(values)), 4),
        "deviation": spread,
    }


def report(found: dict[str, list[Tested]]) -> dict[str, Any]:
    """Top-1 of each method and of the mean of each two and three methods."""
    truths = [truth for _, truth in next(iter(found.values()))]
    rows = {name: top1([scores for scores, _ in folds_], truths) for name, folds_ in found.items()}
    for size in (2, 3):
        for names in combinations(found, size):
            if sum(name.startswith("codec") for name in names) > 1:
                continue  # the same vectors twice
            by_fold = zip(*([scores for scores, _ in found[name]] for name in names), strict=True)
            rows[" + ".join(names)] = top1([np.mean(each, axis=0) for each in by_fold], truths)
    return rows


def together_ms(name: str, costs: dict[str, dict[str, float]]) -> float:
    """Processor time of a frame of methods that are fused, "A + B"; motion that two share counts
    once."""
    parts = name.split(" + ")
    motions: dict[str, float] = {}
    for part in parts:  # a network of pictures has a motion by name, but does without it
        motion = METHODS[part].motion
        motions[motion] = max(motions.get(motion, 0.0), costs[part]["motion_ms"])
    return sum(motions.values()) + sum(costs[part]["network_ms"] for part in parts)


def draw(rows: dict[str, Any], costs: dict[str, dict[str, float]], path: Path) -> None:
    """Top-1 over processor time of a frame, as a picture. Named are methods alone, and fusions that
    no cheaper one equals."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    best = 0.0
    for name in sorted(rows, key=lambda each: together_ms(each, costs)):
        at, alone = (together_ms(name, costs), rows[name]["mean"]), " + " not in name
        colour = "tab:blue" if alone else "tab:orange" if at[1] > best else "lightgrey"
        axes.plot(*at, "o", color=colour)
        if colour != "lightgrey":
            axes.annotate(name, at, xytext=(-4, 5), textcoords="offset points", fontsize=8)
        best = max(best, at[1])
    axes.set_xlabel("processor time of a frame, ms: motion and FP32 networks, 112 x 112")
    axes.set_ylabel(f"top-1, mean of {len(next(iter(rows.values()))['folds'])} folds")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--methods", default="", help="separated by semicolons; default: all")
    parser.add_argument("--folds", type=int, default=FOLDS, help="the first so many")
    parser.add_argument("--out", type=Path, default=Path("work/methods"))
    parser.add_argument("--cache", type=Path, default=Path("work/cache"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--picture", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    names = arguments.methods.split(";") if arguments.methods else list(METHODS)
    dataset = open_dataset(arguments.data, 1)
    clips = [clip for clip in (*dataset.train, *dataset.test) if clip.label in CLASSES]
    options = JobOptions(arguments.out, "auto", None, 300.0, 1, arguments.cache)
    found, runs = cross_validate(names, clips, arguments.folds, options)
    rows = report(found)
    costs = {name: cost(METHODS[name], runs[name], clips[0].path) for name in names}
    print(f"{'':28}  motion, ms  network, ms  GMAC  parameters  input")
    for name, row in costs.items():
        print(
            f"{name:28} {row['motion_ms']:11.2f} {row['network_ms']:12.2f} {row['gmac']:5.2f} "
            f"{row['parameters'] / 1e6:9.1f} M {row['input_bytes'] / 1e3:5.0f} kB"
        )
    print(f"\n{'':44} top-1   deviation between folds")
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["mean"]):
        print(f"{name:44} {row['mean']:.4f}  {row['deviation']}")
    if arguments.json:
        write_result(arguments.json, {"size_px": 112, "top1": rows, "cost": costs})
    if arguments.picture:
        draw(rows, costs, arguments.picture)


if __name__ == "__main__":
    main()
