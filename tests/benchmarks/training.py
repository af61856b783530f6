"""Where the time of training goes, a sample: decode, flow, augmentation, forward, backward.

    python -m tests.benchmarks.training --data ../shared/ucf101 --json out/training.json

Decode and flow are paid once a clip, when the cache is made; the rest at every sample. All in one
process, so that the parts add up. Then a real epoch with the loader's own processes: the share of
its time in which the network waited for samples.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from edge.motion.preprocessor import Preprocessor
from edge.motion.spec import PRESETS
from train.data.cache import fill_cache, open_cache
from train.data.clips import Clip
from train.data.dataset import open_dataset
from train.data.decode import read_frames
from train.json_file import write_json
from train.models.malloc import keep_freed_memory
from train.models.spec import network_spec
from train.recipe import load_recipe
from train.streams import STREAMS
from train.training.dataset import TrainingSet
from train.training.distributed import Ranks
from train.training.job import Job, JobOptions, run_job
from train.training.learner import build_learner
from train.training.optim import class_weights, consensus_loss

CLIPS, STEPS = 8, 6


def measure(stream: str, data: Path) -> dict[str, Any]:
    """Milliseconds a sample (a frame, for decode and flow)."""
    recipe = load_recipe("default", stream)
    clips = list(open_dataset(data, 1).train[:CLIPS])
    classes = tuple(sorted({clip.label for clip in clips} | {"(other)"}))
    spec = network_spec(stream, classes, PRESETS["fast"], 1, clips, [])
    times: dict[str, float] = {}
    started = time.perf_counter()
    frames = [frame for clip in clips[:2] for frame in list(read_frames(clip.path))[:60]]
    times["decode"] = (time.perf_counter() - started) / len(frames)
    preprocessor = Preprocessor(spec.geometry, [PRESETS["fast"]])
    preprocessor.warm_up()
    started = time.perf_counter()
    for index, frame in enumerate(frames[:60]):
        preprocessor.push(frame) if index else preprocessor.clear()
    times["resize_and_flow"] = (time.perf_counter() - started) / 60
    with tempfile.TemporaryDirectory() as folder:
        cached = fill_cache(open_cache(Path(folder), spec), clips, recipe.sampling.stack)
        times |= _steps(TrainingSet(cached, spec, recipe), stream)
        waited = _waited(stream, clips, classes, Path(folder))
    per_sample = times["augment"] + times["forward"] + times["backward"] + times["optimiser"]
    return {
        "stream": stream,
        "size_px": recipe.augmentation.size_px,
        "batch": recipe.optimiser.batch,
        "ms": {name: round(1000 * value, 2) for name, value in times.items()},
        "samples_per_s": round(1 / per_sample, 1),
        "augmentation_share": round(times["augment"] / per_sample, 3),
        "samples_per_s_of_a_loader_process": round(1 / times["augment"], 1),
        "waited_share_of_an_epoch": round(waited, 4),
    }


def _steps(samples: TrainingSet, stream: str) -> dict[str, float]:
    recipe, spec = samples.recipe, samples.spec
    ranks = Ranks(0, 1, 0, torch.device("cpu"))
    learner = build_learner(spec, recipe, ranks)
    weights = class_weights(samples.counts, "none")
    times = dict.fromkeys(("augment", "forward", "backward", "optimiser"), 0.0)
    batch = recipe.optimiser.batch
    for step in range(STEPS + 1):
        marks = [time.perf_counter()]
        items = [samples[1, (step * batch + n) % len(samples)] for n in range(batch)]
        inputs = torch.stack([item[0] for item in items]).flatten(0, 1)
        targets = torch.stack([item[1] for item in items])
        marks.append(time.perf_counter())
        logits = learner.network.train()(inputs.contiguous(memory_format=torch.channels_last))
        loss = consensus_loss(logits, targets, 1, weights)
        marks.append(time.perf_counter())
        loss.backward()
        marks.append(time.perf_counter())
        learner.optimiser.step()
        learner.optimiser.zero_grad(set_to_none=True)
        marks.append(time.perf_counter())
        if step:  # the first one warms up
            for name, start, end in zip(times, marks, marks[1:], strict=False):
                times[name] += (end - start) / STEPS / batch
    return times


def _waited(stream: str, clips: list[Clip], classes: tuple[str, ...], folder: Path) -> float:
    """The share of an epoch's steps that went by in waiting for samples, the first step, in which
    the loader's processes start, left out.
    """
    recipe = load_recipe(
        "default", stream, ("schedule.epochs=1", "schedule.warmup_epochs=0", "sampling.repeats=40")
    )
    job = Job(stream, classes, 1, clips, [], recipe, PRESETS["fast"])
    options = JobOptions(folder / "runs", "", None, 1e9, 1, folder)
    events = EventAccumulator(str(run_job(job, options).parent / "events"))
    events.Reload()
    shares, rates = (
        np.array([event.value for event in events.Scalars(f"step/{name}")[1:]])
        for name in ("data_share", "samples_per_s")
    )
    return float((shares / rates).sum() / (1 / rates).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    keep_freed_memory()
    rows = [measure(stream, arguments.data) for stream in STREAMS]
    for row in rows:
        parts = ", ".join(f"{name} {value}" for name, value in row["ms"].items())
        print(
            f"{row['stream']}: {row['samples_per_s']} samples/s, ms each: {parts}; the network "
            f"waited {row['waited_share_of_an_epoch']:.1%} of an epoch"
        )
    if arguments.json:
        write_json(arguments.json, {"training": rows})


if __name__ == "__main__":
    main()
