"""Own actions: how many of ten clips an action are recognised by networks trained on the others.

    python -m tests.benchmarks.few_takes [--data UCF101] [--cache FOLDER] [--json FILE]

Triples of UCF101's classes, ten clips each of different groups, and ten clips of other classes as
background. Each clip is left out in turn, by the recipe few-takes, as in `twostream actions train`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from edge.motion.spec import PRESETS
from export.takes import estimate
from tests.benchmarks.result import write_result
from train.data.clips import Clip
from train.data.ucf101 import load_split
from train.recipe import load_recipe
from train.streams import STREAMS
from train.training.job import Job, JobOptions, run_leave_one_out

TRIPLES = (
    ("Diving", "Surfing", "Swing"),
    ("Drumming", "JugglingBalls", "JumpRope"),
    ("Diving", "SkyDiving", "Surfing"),
    ("JugglingBalls", "JumpRope", "Swing"),
)
TAKES = 10


def choose(clips: list[Clip], classes: tuple[str, ...]) -> list[Clip]:
    """Ten clips of each class, and of each of ten classes that are in no triple the first."""
    chosen: dict[tuple[str, str], Clip] = {}
    in_triples = {label for triple in TRIPLES for label in triple}
    for clip in sorted(clips, key=lambda clip: clip.name):
        if clip.label in classes:
            if sum(label == clip.label for label, _ in chosen) < TAKES:
                chosen.setdefault((clip.label, clip.group), clip)
        elif clip.label not in in_triples:
            others = {label for label, _ in chosen} - set(classes)
            if clip.label not in others and len(others) < TAKES:
                chosen[clip.label, clip.group] = clip
    return list(chosen.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("UCF101_ROOT", "../shared/ucf101"))
    parser.add_argument("--data", type=Path, default=data, help="UCF101, or a part of it")
    parser.add_argument("--cache", type=Path, default=Path("work/cache"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    split = load_split(arguments.data, 1)
    rows = []
    for classes in TRIPLES:
        clips = choose([*split.train, *split.test], classes)
        logits = {}
        for stream in STREAMS:
            recipe = load_recipe("few-takes", stream)
            job = Job(stream, classes, 1, clips, [], recipe, PRESETS["fast"])
            with tempfile.TemporaryDirectory() as out:
                options = JobOptions(Path(out), "auto", None, 0.0, 1, arguments.cache)
                logits[stream] = run_leave_one_out(job, options).logits
        found = estimate(logits, clips, classes)
        print(", ".join(classes), *(f"  {name:9} {each}" for name, each in found.items()), sep="\n")
        rows.append({name: each.to_json() for name, each in found.items()})
    if arguments.json:
        write_result(arguments.json, {"few_takes": rows})


if __name__ == "__main__":
    main()
