"""`twostream run --events` end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.clips import write_clip
from tests.support.command import assert_refused, twostream

pytestmark = pytest.mark.slow

ACTION = ["--threshold", "JugglingBalls=0.2"]  # a ball that moves


def records(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    return [
        (path.parent, json.loads(path.read_text()))
        for path in sorted(folder.glob("*/[0-9]*/event.json"))
    ]


def starts(lines: Path) -> list[str]:
    rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    return [row["id"] for row in rows if row.get("event") == "start"]


def test_a_file_has_events_in_its_own_time(tmp_path: Path, demo_bundle: Path) -> None:
    clip, folder = write_clip(tmp_path / "a.avi", frames=40), tmp_path / "events"
    words = ["run", demo_bundle, clip, "--events", folder, *ACTION]
    done = twostream(*words, "--json", tmp_path / "o.jsonl", "--keep-gb", 1)
    assert done.returncode == 0, done.stderr
    ((where, record),) = records(folder)
    assert [record["id"]] == starts(tmp_path / "o.jsonl")
    assert 0 < record["started"] < record["reported"] < 1.6
    assert record["clip"]["codec"] == "h264"
    assert record["clip"]["begins"] <= record["started"]
    assert where.name.split("-")[1:3] == ["a", "JugglingBalls"]


def test_limits_need_something_to_limit(tmp_path: Path, demo_bundle: Path) -> None:
    done = twostream("run", demo_bundle, "test://?live=1", "--keep-gb", 1)
    assert_refused(done, "--keep-gb", "--segment MINUTES or --events DIR")
    done = twostream("run", demo_bundle, "test://?live=1", "--events", tmp_path, "--before", 100)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
