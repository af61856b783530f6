"""A data set and a recipe so small that a training run takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge.motion.spec import PRESETS
from tests.support.clips import write_clip
from train.data.clips import Clip
from train.data.splits import hold_out
from train.data.ucf101 import load_split
from train.recipe import load_recipe
from train.training.job import Job, JobOptions, run_job

CLASSES = ("Diving", "Drumming")
PATTERNS = {"Diving": "ball", "Drumming": "smpte", "Archery": "snow", "Bowling": "bar"}
GROUPS = (1, 8, 9, 10, 11)

# A network of its own start, on 64 x 64 pictures, without anything drawn within the network.
CHANGES = (
    "network.weights=none",
    "network.size_px=64",
    "network.dropout=0.0",
    "augmentation.size_px=0",
    "optimiser.batch=8",
    "optimiser.precision=full",
    "sampling.repeats=2",
    "schedule.epochs=2",
    "schedule.warmup_epochs=0.5",
    "validation.samples=1",
)


def write_dataset(root: Path) -> Path:
    """A UCF101 tree of two made actions, which look different, and two others."""
    lists: dict[str, list[str]] = {"trainlist01.txt": [], "testlist01.txt": []}
    for label, pattern in PATTERNS.items():
        (root / "UCF-101" / label).mkdir(parents=True)
        for group in GROUPS:
            name = f"{label}/v_{label}_g{group:02}_c01.avi"
            path = root / "UCF-101" / name
            write_clip(path, frames=16, pattern=pattern, size_hw=(120, 160))
            with path.open("ab") as file:  # the same pictures, yet not a copy of another clip
                file.write(name.encode())
            lists["testlist01.txt" if group == 1 else "trainlist01.txt"].append(name)
    (root / "ucfTrainTestlist").mkdir()
    for file, names in lists.items():
        (root / "ucfTrainTestlist" / file).write_text("".join(f"{name}\n" for name in names))
    return root


def options(*changes: str) -> list[str]:
    """The same recipe as arguments of the command; later changes win."""
    return [word for change in (*CHANGES, *changes) for word in ("--set", change)]


def train(
    data: Path,
    out: Path,
    stream: str,
    *changes: str,
    split: int = 1,
    footage: Sequence[Clip] = (),
) -> Path:
    """The best checkpoint of a run on such a data set. footage: to train on, too."""
    recipe = load_recipe("default", stream, (*CHANGES, *changes))
    clips, held = hold_out(load_split(data, split).train, CLASSES, 0.15)
    job = Job(stream, CLASSES, split, [*clips, *footage], held, recipe, PRESETS["fast"])
    return run_job(job, JobOptions(out, "", 0, 1e9, 3, data / "cache"))
