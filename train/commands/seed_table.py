"""`twostream seed-table`: trains and evaluates every row of the Keras two-stream project's table.

It runs the other commands one after another, so that each row can be reproduced by hand, and a
stopped run can continue.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from edge.errors import TrainingError
from edge.files import write_atomic
from edge.log import current_level
from train.commands.arguments import Cache, Changes, Classes, Data

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """A network of the table. published: top-1 on UCF101 split 1 in percent, from the project's
    page; 75 stands for its "about 75".
    """

    stream: str
    backbone: str
    published: float


ROWS = (
    Row("spatial", "vgg19", 75.0),
    Row("spatial", "resnet50", 81.2),
    Row("spatial", "legacy_xception", 86.04),
    Row("temporal", "resnet50", 75.0),
    Row("temporal", "legacy_xception", 84.4),
)
FUSIONS = {"average": 91.25, "recurrent whole": 91.7}  # published, of both Xception networks
FUSED_BACKBONE = "legacy_xception"
PUBLISHED_CLIPS, PUBLISHED_CLASSES = 3783, 101  # of the test list of UCF101 split 1


def seed_table_command(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the runs, results.md and results.json.")],
    classes: Classes = "",
    changes: Changes = None,
    samples: Annotated[int, typer.Option(min=1, help="Evenly spaced snippets of each clip.")] = 19,
    cache: Cache = Path("work/cache"),
) -> None:
    """Train and evaluate the networks of the Keras two-stream project, and compare the top-1.

    Beside each figure stand the clips, classes and epochs behind it.
    On all of UCF101 this takes days on a GPU; try it with --set schedule.epochs=1.
    """
    out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    fused_networks: list[dict[str, Any]] = []
    for row in ROWS:
        logger.info("%s %s", row.stream, row.backbone)
        run = _train(row, data, out, classes, changes or [], cache)
        report = _evaluate(row, run, data, out, samples, cache)
        behind = _behind(report, row.stream, run)
        results.append(
            {"row": f"{row.stream}, {row.backbone}", "published": row.published, "run": str(run)}
            | {"top1": report[row.stream]["top1"]}
            | behind
        )
        if row.backbone == FUSED_BACKBONE:
            fused_networks.append(behind)
    runs = {row.stream: _run_of(row, out) for row in ROWS if row.backbone == FUSED_BACKBONE}
    fused = _fuse(runs, data, out, samples, cache)
    for name, published in FUSIONS.items():
        results.append(
            {"row": f"{name} of both Xception", "published": published}
            | {"top1": fused[name]["top1"]}
            | _behind_both(fused["clips"]["test"], fused_networks)
        )
    _write(out, results)
    print((out / "results.md").read_text(encoding="utf-8"), end="")


def _command(*words: object) -> None:
    """Run a twostream command, which prints its own errors. Raises TrainingError if it fails."""
    twostream = str(Path(sys.executable).with_name("twostream"))
    command = [twostream, *map(str, words), "--log-level", current_level()]
    if subprocess.run(command, check=False).returncode:
        raise TrainingError(f"stopped at: twostream {' '.join(map(str, words))}")


def _train(row: Row, data: Path, out: Path, classes: str, changes: list[str], cache: Path) -> Path:
    overrides = [f"network.backbone={row.backbone}", *changes]
    words = [word for override in overrides for word in ("--set", override)]
    words += ["--classes", classes] if classes else []
    folder = out / row.stream / row.backbone
    _command(
        "train", row.stream, data, "--recipe", "seed-xception", "--resume", "auto",
        "--out", folder, "--cache", cache, *words,
    )  # fmt: skip
    return _run_of(row, out)


def _run_of(row: Row, out: Path) -> Path:
    """The run folder of a row. Raises TrainingError if there is not exactly one."""
    folder = out / row.stream / row.backbone
    runs = [path for path in folder.iterdir() if path.is_dir()]
    if len(runs) != 1:
        raise TrainingError(
            f"{folder} holds {len(runs)} runs, of different recipes; give another --out"
        )
    return runs[0]


def _evaluate(
    row: Row, run: Path, data: Path, out: Path, samples: int, cache: Path
) -> dict[str, Any]:
    report = out / f"{row.stream}-{row.backbone}.json"
    _command(
        "evaluate", data, "--network", f"{row.stream}={run}", "--samples", samples,
        "--cache", cache, "--report", report,
    )  # fmt: skip
    figures: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return figures


def _behind(report: dict[str, Any], stream: str, run: Path) -> dict[str, Any]:
    """What stands behind a figure: test clips, classes, training clips, and the epoch of the
    network that was evaluated.

    report: of `twostream evaluate`.
    """
    from train.models.checkpoint import epoch_of, read_metadata, read_spec

    file = run / report["checkpoints"][stream]["file"]
    spec = read_spec(file, read_metadata(file))
    return {
        "clips": report["clips"],
        "classes": len(spec.classes),
        "trained_on": len(spec.train_clips),
        "epochs": [epoch_of(file)],
    }


def _behind_both(clips: int, networks: list[dict[str, Any]]) -> dict[str, Any]:
    """The same of the fusion of these networks. clips: test clips that both have scores of."""
    epochs = [epoch for behind in networks for epoch in behind["epochs"]]
    return networks[0] | {"clips": clips, "epochs": epochs}


def _fuse(
    runs: dict[str, Path], data: Path, out: Path, samples: int, cache: Path
) -> dict[str, Any]:
    scores, report = out / "scores.npz", out / "fusion.json"
    networks = [word for name, run in runs.items() for word in ("--network", f"{name}={run}")]
    _command(
        "evaluate", data, *networks, "--for-fusion", "--samples", samples,
        "--cache", cache, "--scores", scores,
    )  # fmt: skip
    _command("fuse", scores, "--report", report)
    figures: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return figures


def _write(out: Path, rows: list[dict[str, Any]]) -> None:
    lines = [
        "| row | the Keras project, UCF101 split 1 | here "
        "| test clips | classes | trained on | epochs |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['row']} | {r['published']:.2f} | {100 * r['top1']:.2f} | {r['clips']} | "
        f"{r['classes']} | {r['trained_on']} clips | {' + '.join(map(str, r['epochs']))} |"
        for r in rows
    ]
    if any((r["clips"], r["classes"]) != (PUBLISHED_CLIPS, PUBLISHED_CLASSES) for r in rows):
        lines += [
            "",
            f"The figures of the Keras project are of {PUBLISHED_CLIPS:,} test clips of "
            f"{PUBLISHED_CLASSES} classes; those here are of other clips, so that the two columns "
            "do not compare.",
        ]
    for name, text in (
        ("results.md", "\n".join(lines) + "\n"),
        ("results.json", json.dumps(rows, indent=1) + "\n"),
    ):
        with write_atomic(out / name, TrainingError) as file:
            file.write(text.encode())
