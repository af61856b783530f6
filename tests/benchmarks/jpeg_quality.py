"""What accuracy costs when test clips come as JPEG pictures: the published frames, or one's own.

    python -m tests.benchmarks.jpeg_quality --data ../shared/ucf101 \\
        --network spatial=work/heavy-spatial-... --network temporal=work/heavy-temporal-... \\
        --json out/jpeg.json

Published results of this field have moved by ten points with the quality of the pictures that the
flow was computed from. Here the networks stay and the test clips change: as videos, and as
`jpegs_256` at quality 100 and 75, flow measured anew on each.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import cv2

from tests.support.command import TWOSTREAM
from train.commands.arguments import networks_by_name
from train.data.dataset import open_dataset
from train.data.ucf101 import FRAMES, LISTS
from train.json_file import write_json
from train.models.checkpoint import find_checkpoint, read_metadata, read_spec
from train.streams import FUSED

QUALITIES = (100, 75)


def write_frames(data: Path, classes: tuple[str, ...], quality: int, out: Path) -> None:
    """The test clips of these classes as pictures of their own size, the lists beside them."""
    shutil.copytree(data / LISTS, out / LISTS)
    for clip in open_dataset(data, 1).test:
        if clip.label not in classes:
            continue
        folder = out / FRAMES / Path(clip.name).stem
        folder.mkdir(parents=True)
        video, number = cv2.VideoCapture(str(clip.path)), 1
        while (read := video.read())[0]:
            path = folder / f"frame{number:06}.jpg"
            cv2.imwrite(str(path), read[1], (cv2.IMWRITE_JPEG_QUALITY, quality))
            number += 1


def evaluate(data: Path, networks: dict[str, Path], folder: Path) -> dict[str, float]:
    """Top-1 of each stream and of their mean."""
    report = folder / "report.json"
    where = ["--report", str(report), "--cache", str(folder / "cache")]
    streams = [f"--network={name}={path}" for name, path in networks.items()]
    command = [str(TWOSTREAM), "evaluate", str(data), *streams, *where]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(report.read_text())
    return {name: found[name]["top1"] for name in (*networks, FUSED) if name in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--network", action="append", required=True)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    networks = networks_by_name(arguments.network)
    file = find_checkpoint(next(iter(networks.values())))
    classes = read_spec(file, read_metadata(file)).classes
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        rows["video"] = evaluate(arguments.data, networks, Path(folder))
        for quality in QUALITIES:
            out = Path(folder) / f"q{quality}"
            write_frames(arguments.data, classes, quality, out)
            rows[f"jpeg {quality}"] = evaluate(out, networks, out)
    for name, row in rows.items():
        print(f"{name:9}", "  ".join(f"{stream} {top1:.3f}" for stream, top1 in row.items()))
    if arguments.json:
        write_json(arguments.json, {"jpeg_quality": rows})


if __name__ == "__main__":
    main()
