"""The notebook that goes from clips to live labels, run as a reader runs it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.command import twostream
from tests.support.paths import REPOSITORY
from tests.support.waiting import BOUND_S

NOTEBOOK = REPOSITORY / "train" / "walkthrough.ipynb"


def test_the_notebook_is_stored_without_outputs() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.slow
def test_the_walkthrough_runs_and_ends_with_labels(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=int(20 * BOUND_S), resources=place).execute()
    work = tmp_path / "walkthrough"
    report = json.loads((work / "report.json").read_text())
    assert report["temporal"]["top1"] == 1.0  # motion tells the two apart
    assert report["spatial"]["top1"] < 1.0  # no picture does
    assert twostream("verify", str(work / "bundle")).returncode == 0
    *rows, last = [json.loads(line) for line in (work / "live.jsonl").read_text().splitlines()]
    lines = [row for row in rows if "frame" in row]
    assert next(row["event"] for row in rows if "event" in row) == "start"
    labels = {line["label"] for line in lines if line["state"] == "running"}
    assert {"bounce", "slide"} <= labels
    summary = last["summary"]
    assert len(lines) == summary["frames"] - summary["skipped"]
    video = cv2.VideoCapture(str(work / "live.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == len(lines)
